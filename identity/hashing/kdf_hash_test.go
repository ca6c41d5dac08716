package hashing

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"
)

const (
	// The example of the documentation of Firebase's scrypt, https://github.com/firebase/scrypt.
	firebaseSignerKey = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
	firebaseHash      = "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,k=firebase$42xEC+ixf3L2lw==$" +
		"lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
)

// firebaseHasher returns a hasher with a pepper for new hashes, and a signer key as the pepper "firebase".
func firebaseHasher(t *testing.T) *Hasher {
	t.Helper()
	signer, err := base64.StdEncoding.DecodeString(firebaseSignerKey)
	if err != nil {
		t.Fatal(err)
	}
	return quickHasher(t, Pepper{"k1", key('1')}, Pepper{"firebase", signer})
}

// encoded returns the base64 of a digest that an RFC gives in hex.
func encoded(t *testing.T, digest string) string {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(digest, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// RFC 9106 has no vector without a secret and associated data, which PHC strings do not carry. The vectors of
// Argon2 are those of its reference implementation.
func TestVerify_AcceptsPublishedHashesOfEveryForm(t *testing.T) {
	base64Salt := func(salt string) string { return base64.RawStdEncoding.EncodeToString([]byte(salt)) }
	h := firebaseHasher(t)
	for _, c := range []struct{ source, hash, password string }{
		{"Argon2, src/test.c", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"},
		{"Argon2, src/test.c", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"},
		{"Argon2, src/test.c", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
		{"Argon2, src/test.c", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8", "password"},
		{"RFC 7914 section 12", "$scrypt$ln=10,r=8,p=16$" + base64Salt("NaCl") + "$" + encoded(t, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"+
			"2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"), "password"},
		{"RFC 7914 section 12", "$scrypt$ln=14,r=8,p=1$" + base64Salt("SodiumChloride") + "$" + encoded(t, "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"+
			"d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"), "pleaseletmein"},
		{"passlib, passlib.hash.scrypt", "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E", "password"},
		{"RFC 7914 section 11", "$pbkdf2-sha256$1$" + base64Salt("salt") + "$" + encoded(t, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"+
			"49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"), "passwd"},
		{"RFC 7914 section 11, PHC", "$pbkdf2-sha256$i=80000,l=64$" + base64Salt("NaCl") + "$" + encoded(t, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"+
			"a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"), "Password"},
		{"RFC 6070", "$pbkdf2$4096$" + base64Salt("salt") + "$" + encoded(t, "4b007901b765489abead49d926f721d065a429c1"), "password"},
		{"RFC 6070, PHC", "$pbkdf2-sha1$i=4096$" + base64Salt("sa\x00lt") + "$" + encoded(t, "56fa6aa75548099dcc37d7f03425e0c3"), "pass\x00word"},
		{"RFC 6070, Django", "pbkdf2_sha1$4096$saltSALTsaltSALTsaltSALTsaltSALTsalt$" + encoded(t, "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"), "passwordPASSWORDpassword"},
		{"hashcat, mode 20200, of passlib", "$pbkdf2-sha512$25000$LyWE0HrP2RsjZCxlDGFMKQ$1vC5Ohk2mCS9b6akqsEfgeb4l74SF8XjH.SljXf3dMLHdlY1GK9ojcCKts6/asR4aPqBmk74nCDddU3tvSCJvw", "hashcat"},
		{"Django 4.1, tests/auth_tests/test_hashers.py", "pbkdf2_sha256$390000$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=", "l\u00e8tmein"},
		{"Firebase", firebaseHash, "user1password"},
		{"Firebase, in the URL's alphabet", strings.NewReplacer("+", "-", "/", "_", "$42xEC+", "$42xEC-").Replace(firebaseHash), "user1password"},
	} {
		if err := h.CheckHash(c.hash); err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		if ok, rehash := verify(t, h, c.hash, c.password); !ok || !rehash {
			t.Errorf("%s: ok %v, rehash %v", c.source, ok, rehash)
		}
		if ok, rehash := verify(t, h, c.hash, c.password+"x"); ok || rehash {
			t.Errorf("%s: accepts another password", c.source)
		}
	}
}

// importable returns quick hashes of the password, one of each function.
func importable(t *testing.T, password string) (hashes []string) {
	t.Helper()
	salt := []byte("saltsalt")
	for _, k := range []KDF{
		{Name: "argon2id", Costs: []uint32{8, 1, 1}},
		{Name: "argon2i", Costs: []uint32{32, 1, 4}},
		{Name: "scrypt", Costs: []uint32{4, 1, 1}},
		{Name: "pbkdf2-sha1", Costs: []uint32{1}},
		{Name: "pbkdf2-sha256", Costs: []uint32{1}},
		{Name: "pbkdf2-sha512", Costs: []uint32{1}},
	} {
		k.Salt, k.Size = salt, 32
		digest, err := k.derive([]byte(password))
		if err != nil {
			t.Fatal(err)
		}
		text, costs := "$"+k.Name+"$", []string{}
		if strings.HasPrefix(k.Name, "argon2") {
			text += "v=19$"
		}
		for i, name := range kdfs[k.Name].costs {
			costs = append(costs, fmt.Sprintf("%s=%d", name, k.Costs[i]))
		}
		hashes = append(hashes, text+strings.Join(costs, ",")+"$"+base64.RawStdEncoding.EncodeToString(salt)+"$"+base64.RawStdEncoding.EncodeToString(digest))
	}
	return hashes
}

// Two devices may send the same letter as one character or as two.
func TestVerify_AcceptsImportedHashesInNFCAndAsSent(t *testing.T) {
	composed, decomposed := norm.NFC.String("pässword"), norm.NFD.String("pässword")
	h := quickHasher(t)
	for _, hash := range importable(t, composed) {
		for _, sent := range []string{composed, decomposed} {
			if ok, rehash := verify(t, h, hash, sent); !ok || !rehash {
				t.Errorf("%s of a password in NFC, sent as %q: ok %v, rehash %v", hash, sent, ok, rehash)
			}
		}
	}
	for _, hash := range importable(t, decomposed) {
		if ok, rehash := verify(t, h, hash, decomposed); !ok || !rehash {
			t.Errorf("%s of the password as sent: ok %v, rehash %v", hash, ok, rehash)
		}
		if ok, _ := verify(t, h, hash, composed); ok {
			t.Errorf("%s matches a password of other characters", hash)
		}
	}
}

// steadyEngine is a hash engine on a machine where a hash at cost 10 takes the time hash, and each derivation the
// time key.
type steadyEngine struct{ hash, key time.Duration }

func (e steadyEngine) Compare(_ context.Context, hash, _ []byte) error {
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return err
	}
	time.Sleep(e.hash >> (10 - cost))
	return bcrypt.ErrMismatchedHashAndPassword
}

func (e steadyEngine) Generate(context.Context, []byte, int) ([]byte, error) {
	return nil, ErrUnavailable
}

func (e steadyEngine) Derive(context.Context, KDF, []byte) ([]byte, error) {
	time.Sleep(e.key)
	return nil, nil
}

// The time of a refusal must not tell a user with an imported hash from nobody. A hash that costs more than the
// current cost takes longer, and counts as more than one hash.
func TestVerify_ImportedHashTakesAsLongAsNobody(t *testing.T) {
	for _, hash := range []time.Duration{40 * time.Millisecond, 64 * time.Millisecond, 300 * time.Millisecond} {
		for _, c := range []struct{ key, least, most float64 }{ // in hashes at the current cost
			{0, 0.95, 1.05}, {0.1, 0.95, 1.05}, {0.5, 0.95, 1.05}, {0.77, 0.95, 1.05}, {0.97, 0.95, 1.05}, {3, 3, 3.07},
		} {
			synctest.Test(t, func(t *testing.T) {
				h, err := NewHasher(10, nil)
				if err != nil {
					t.Fatal(err)
				}
				h.Engine = steadyEngine{hash, time.Duration(c.key * float64(hash))}
				h.Queue = NewQueue(QueueOptions{Slots: 1, Patience: time.Minute, HashTime: hash})
				turn, start := enter(t, h), time.Now()
				place := turn.place
				if ok, _, err := turn.Verify(t.Context(), importable(t, "x")[0], "wrong"); ok || err != nil {
					t.Fatal(ok, err)
				}
				took := float64(time.Since(start)) / float64(hash)
				if took < c.least || took > c.most || place.hashes < c.least || place.hashes > c.most {
					t.Errorf("a key that takes %v hashes of %v: took %v, counted as %v", c.key, hash, took, place.hashes)
				}
			})
		}
	}
}

func TestCheckHash_RefusesMalformedImportedHashes(t *testing.T) {
	h := firebaseHasher(t)
	const salt, digest = "c2FsdHNhbHRzYWx0", "ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGln"
	for _, c := range []struct{ hash, want string }{
		{"$argon2id$m=65536,t=3,p=4$" + salt + "$" + digest, "argon2id: v: want version 19"},
		{"$argon2id$v=16$m=65536,t=3,p=4$" + salt + "$" + digest, "argon2id: v: want version 19"},
		{"$argon2id$v=19$m=131073,t=1,p=1$" + salt + "$" + digest, "argon2id: m is 131073; want 8 to 131072"},
		{"$argon2id$v=19$m=31,t=1,p=4$" + salt + "$" + digest, "argon2id: m is 31; want 32 to 131072"},
		{"$argon2id$v=19$m=65536,t=17,p=4$" + salt + "$" + digest, "argon2id: m × t is 1114112; want 8 to 1048576"},
		{"$argon2id$v=19$m=4294967295,t=4294967295,p=4294967295$" + salt + "$" + digest, "argon2id: p is 4294967295; want 1 to 16"},
		{"$argon2id$v=19$m=65536,t=0,p=4$" + salt + "$" + digest, "argon2id: t is 0"},
		{"$argon2id$v=19$m=65536,t=3,p=17$" + salt + "$" + digest, "argon2id: p is 17"},
		{"$argon2id$v=19$m=65536,t=3,p=260$" + salt + "$" + digest, "argon2id: p is 260"}, // 260 is 4 in eight bits
		{"$argon2id$v=19$m=65536,t=3$" + salt + "$" + digest, "argon2id: want the parameters m, t, p"},
		{"$argon2id$v=19$t=3,m=65536,p=4$" + salt + "$" + digest, "argon2id: m: want a whole number after m="},
		{"$argon2id$v=19$m=065536,t=3,p=4$" + salt + "$" + digest, "argon2id: m: want a whole number"},
		{"$argon2id$v=19$m=65536,t=+3,p=4$" + salt + "$" + digest, "argon2id: t: want a whole number"},
		{"$argon2id$v=19$m=65536,t=99999999999,p=4$" + salt + "$" + digest, "argon2id: t: want a whole number"},
		{"$argon2id$v=19$m=65536,t=3,p=4$" + salt, "argon2id: want the parameters, the salt and the hash"},
		{"$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + digest + "$", "argon2id: want the parameters, the salt and the hash"},
		{"$argon2id$v=19$m=65536,t=3,p=4$$" + digest, "argon2id: length of the salt in bytes is 0"},
		{"$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$", "argon2id: length of the hash in bytes is 0"},
		{"$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$c2hvcnQ", "argon2id: length of the hash in bytes is 5"},
		{"$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + strings.Repeat(digest, 4), "argon2id: length of the hash in bytes is 132"},
		{"$argon2id$v=19$m=65536,t=3,p=4$!" + salt + "$" + digest, "argon2id: salt: want base64"},
		{"$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + digest + "\n", "argon2id: hash: want base64"},
		{"$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + digest + "x", "argon2id: hash: want base64"},
		{"$argon2id", "argon2id: v: want version 19"},
		{"$argon2d$v=19$m=65536,t=3,p=4$" + salt + "$" + digest, "neither bcrypt nor another known form"},
		{"argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + digest, "neither bcrypt nor another known form"},
		{"$scrypt$ln=18,r=8,p=1$" + salt + "$" + digest, "scrypt: 2^ln × r is 2097152; want 2 to 1048576"},
		{"$scrypt$ln=17,r=8,p=3$" + salt + "$" + digest, "scrypt: 2^ln × r × p is 3145728; want 2 to 2097152"},
		{"$scrypt$ln=0,r=8,p=1$" + salt + "$" + digest, "scrypt: ln is 0; want 1 to 20"},
		{"$scrypt$ln=64,r=1,p=1$" + salt + "$" + digest, "scrypt: ln is 64"}, // 2^64 is 0 in 64 bits
		{"$scrypt$ln=10,r=4294967295,p=1$" + salt + "$" + digest, "scrypt: r is 4294967295"},
		{"$scrypt$ln=10,r=8,p=0$" + salt + "$" + digest, "scrypt: p is 0"},
		{"$scrypt$65536$8$1$" + salt + "$" + digest, "scrypt: want the parameters, the salt and the hash"},
		{"$pbkdf2-sha256$2000001$" + salt + "$" + digest, "pbkdf2-sha256: i is 2000001; want 1 to 2000000"},
		{"$pbkdf2-sha256$1500000$" + salt + "$" + digest, "pbkdf2-sha256: i × blocks is 3000000; want 1 to 2000000"},
		{"$pbkdf2-sha256$0$" + salt + "$" + digest, "pbkdf2-sha256: i is 0"},
		{"$pbkdf2-sha256$many$" + salt + "$" + digest, "pbkdf2-sha256: i: want a whole number"},
		{"$pbkdf2-sha256$i=1000,l=20$" + salt + "$" + digest, "pbkdf2-sha256: want the parameters i"},
		{"$pbkdf2-md5$1000$" + salt + "$" + digest, "neither bcrypt nor another known form"},
		{"pbkdf2_sha256$1000$$" + digest, "pbkdf2_sha256: length of the salt in bytes is 0"},
		{"pbkdf2_sha256$9999999$" + salt + "$" + digest, "pbkdf2_sha256: i is 9999999"},
		{"pbkdf2_md5$1000$" + salt + "$" + digest, "neither bcrypt nor another known form"},
		{strings.Replace(firebaseHash, "n=14", "n=18", 1), "fbscrypt: 2^ln × r is 2097152"},
		{strings.Replace(firebaseHash, "v=1", "v=2", 1), "fbscrypt: want parameters such as v=1"},
		{strings.Replace(firebaseHash, "ss=Bw==,", "", 1), "fbscrypt: want parameters such as v=1"},
		{strings.Replace(firebaseHash, "ss=Bw==", "ss=B?", 1), "fbscrypt: ss: want base64"},
		{strings.Replace(firebaseHash, ",k=firebase", ",sk="+firebaseSignerKey, 1), "fbscrypt: k: want the id of the pepper"},
		{strings.Replace(firebaseHash, "k=firebase", "k="+firebaseSignerKey, 1), "fbscrypt: k: want the id of the pepper"},
		{strings.Replace(firebaseHash, "k=firebase", "k=other", 1), `pepper "other" is not configured`},
		{strings.Replace(firebaseHash, "lSrfV15c", "", 1), "fbscrypt: hash: want 64 bytes"},
		{strings.Replace(firebaseHash, "k=firebase", "k=0", 1), "fbscrypt: hash: want 0 bytes"},
	} {
		err := h.CheckHash(c.hash)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.hash, err, c.want)
			continue
		}
		for _, secret := range []string{salt, digest, firebaseSignerKey[:20], "lSrfV15c", "42xEC"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes the hash or a key: %v", err)
			}
		}
		if _, _, err := enter(t, h).Verify(t.Context(), c.hash, "x"); err == nil {
			t.Errorf("Verify accepts %q", c.hash)
		}
	}
}

// The signer key must not protect new hashes, because the database and one known password are enough to compute the key.
func TestCheckHash_RefusesSignerKeyAsPepperOfNewHashes(t *testing.T) {
	h := firebaseHasher(t)
	h.current = "firebase"
	if err := h.CheckHash(firebaseHash); err == nil || !strings.Contains(err.Error(), "want another pepper before it") {
		t.Errorf("got %v", err)
	}
	if ok, _ := verify(t, h, firebaseHash, "user1password"); !ok {
		t.Error("a stored hash no longer verifies")
	}
}

func TestDerive_RefusesCostsOutOfBounds(t *testing.T) {
	salt := []byte("saltsalt")
	for _, k := range []KDF{
		{},
		{Name: "md5", Salt: salt, Size: 32},
		{Name: "scrypt", Costs: []uint32{4, 1}, Salt: salt, Size: 32},
		{Name: "scrypt", Costs: []uint32{4, 1, 1}, Salt: salt, Size: -1},
		{Name: "argon2id", Costs: []uint32{1 << 30, 1, 1}, Salt: salt, Size: 32},
	} {
		if _, err := k.derive(nil); err == nil {
			t.Errorf("derives a key with %+v", k)
		}
	}
}

func TestDerive_WaitsWhileOthersUseTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !memory.TryAcquire(maxTotalMemory) {
			t.Fatal("the memory is in use")
		}
		done := make(chan error, 1)
		go func() {
			_, err := KDF{Name: "argon2id", Costs: []uint32{8, 1, 1}, Salt: []byte("saltsalt"), Size: 32}.derive(nil)
			done <- err
		}()
		synctest.Wait()
		if len(done) > 0 {
			t.Error("the derivation did not wait for memory")
		}
		memory.Release(maxTotalMemory)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !memory.TryAcquire(maxTotalMemory) {
			t.Fatal("the derivation did not release its memory")
		}
		memory.Release(maxTotalMemory)
	})
}

func FuzzParseKDF_VerifiesWhatCheckHashAccepts(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$scrypt$ln=1,r=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$pbkdf2-sha256$i=1,l=32$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("pbkdf2_sha1$1$salt$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4=")
	f.Add(strings.Replace(firebaseHash, "n=14", "n=1", 1))
	f.Fuzz(func(t *testing.T, hash string) {
		k, _, err := parseKDF(hash)
		if err != nil {
			return
		}
		if err := k.check(); err != nil {
			t.Fatalf("%q is out of bounds: %v", hash, err)
		}
		cost := uint64(1)
		for _, c := range k.wide() {
			cost *= c
		}
		if cost > 1000 || k.Name == "scrypt" && k.Costs[0] > 8 {
			return // the derivation would take too long
		}
		if derived, err := k.derive([]byte("x")); err != nil || len(derived) != k.Size {
			t.Fatalf("%q: %d bytes, %v", hash, len(derived), err)
		}
	})
}
