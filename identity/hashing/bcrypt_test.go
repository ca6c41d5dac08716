package hashing

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

var secrets = []string{
	"", "a", "correct horse battery staple", "ünïcödé", "with\x00zero", "\xff\xff\xa3", strings.Repeat("x", 71), strings.Repeat("y", 72),
}

func TestBcrypt_AgreesWithXCrypto(t *testing.T) {
	for _, secret := range secrets {
		for cost := bcrypt.MinCost; cost <= bcrypt.MinCost+1; cost++ {
			idle := cost > bcrypt.MinCost // runs the lowest cost at normal priority, and the other cost only when nothing else wants the CPU
			ours, err := generate([]byte(secret), cost, idle)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := bcrypt.GenerateFromPassword([]byte(secret), cost)
			if err != nil {
				t.Fatal(err)
			}
			if len(ours) != len(theirs) || !bytes.Equal(ours[:7], theirs[:7]) {
				t.Errorf("our hash %q does not have the form of x/crypto's %q", ours, theirs)
			}
			for _, hash := range [][]byte{ours, theirs} {
				for _, asked := range []string{secret, secret + "x", "a", ""} {
					got, want := compare(hash, []byte(asked), idle), bcrypt.CompareHashAndPassword(hash, []byte(asked))
					if !errors.Is(got, want) {
						t.Errorf("%s, %q: %v, want %v as x/crypto", hash, asked, got, want)
					}
				}
			}
		}
	}
}

// When a hash has taken more than farBehind times as long as on an idle machine, it yields the CPU less
// often. Its result is the same.
func TestBcrypt_YieldsLessOftenWhenHashTakesTooLong(t *testing.T) {
	salt, err := bcryptBase64.DecodeString(strings.Repeat("a", saltChars))
	if err != nil {
		t.Fatal(err)
	}
	const cost = bcrypt.MinCost + 2
	want, err := digest([]byte("x"), salt, cost, false)
	if err != nil {
		t.Fatal(err)
	}
	for late, done := range map[time.Duration]int{-time.Hour: 1 << cost, time.Hour: yieldEvery} {
		for _, idle := range []bool{false, true} {
			begun := func() *rounds {
				r, err := begin([]byte("x"), salt, cost)
				if err != nil {
					t.Fatal(err)
				}
				r.begun = r.begun.Add(-late)
				return r
			}
			r := begun()
			if r.run(yieldEvery, farBehind); r.done != done || r.left != 1<<cost-done {
				t.Errorf("hash late by %v: yielded often during %d rounds, with %d left of %d", late, r.done, r.left, 1<<cost)
			}
			r = begun()
			r.finish(idle)
			if got := r.sum(); r.left != 0 || !bytes.Equal(got, want) {
				t.Errorf("hash late by %v, idle %t: digest %s with %d rounds left, want %s", late, idle, got, r.left, want)
			}
		}
	}
}

// Other implementations of bcrypt write other version letters into a hash. bcrypt reads only the first 72
// bytes of a secret.
func TestBcrypt_VerifiesOtherVersionsAndLongSecrets(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte(strings.Repeat("z", 72)), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"$2$", "$2a$", "$2b$", "$2y$"} {
		hash := append([]byte(version), hash[len("$2a$"):]...)
		for _, secret := range []string{strings.Repeat("z", 72), strings.Repeat("z", 90), strings.Repeat("z", 71), "z"} {
			got, want := compare(hash, []byte(secret), false), bcrypt.CompareHashAndPassword(hash, []byte(secret))
			if (got == nil) != (want == nil) {
				t.Errorf("%s, %d bytes: %v, want %v as x/crypto", version, len(secret), got, want)
			}
		}
	}
}

func TestBcrypt_RefusesMalformedHashesAndCosts(t *testing.T) {
	good, err := generate([]byte("x"), bcrypt.MinCost, false)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 60)
	rand.Read(noise)
	for _, hash := range [][]byte{nil, []byte("$2a$04$"), good[:59], good[:30], noise, []byte("$3a$04$" + string(good[7:])), []byte("$2a$99$" + string(good[7:])), []byte(string(good[:7]) + "!" + string(good[8:])), append(good[:60:60], 'x'), []byte(strings.Repeat("$", 60)), []byte("$2a$04$" + strings.Repeat("a", 50) + "$ab")} {
		if compare(hash, []byte("x"), false) == nil {
			t.Errorf("%q was accepted", hash)
		}
	}
	for _, cost := range []int{-1, 0, 3, 32} {
		if _, err := generate(nil, cost, false); !errors.Is(err, bcrypt.InvalidCostError(cost)) {
			t.Errorf("cost %d: %v", cost, err)
		}
	}
	if _, err := generate(make([]byte, 73), bcrypt.MinCost, false); !errors.Is(err, bcrypt.ErrPasswordTooLong) {
		t.Error(err)
	}
}

// broken is an implementation of bcrypt that wrongly accepts every secret.
var broken = implementation{
	compare:  func([]byte, []byte, bool) error { return nil },
	generate: generate,
}

func TestNewServer_ReportsFaultOfBrokenBcrypt(t *testing.T) {
	if s := newServer(yielding); s.fault != nil {
		t.Errorf("the correct bcrypt has a fault: %v", s.fault)
	}
	for why, i := range map[string]implementation{
		"accepts every secret":   broken,
		"refuses every secret":   {func([]byte, []byte, bool) error { return bcrypt.ErrMismatchedHashAndPassword }, generate},
		"hashes an empty secret": {compare, func(_ []byte, cost int, idle bool) ([]byte, error) { return generate(nil, cost, idle) }},
	} {
		if newServer(i).fault == nil {
			t.Errorf("the check accepts a bcrypt that %s", why)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	for _, way := range []struct {
		name string
		hash func([]byte, int) ([]byte, error)
	}{
		{"yielding", func(secret []byte, cost int) ([]byte, error) { return generate(secret, cost, false) }},
		{"on an idle thread", func(secret []byte, cost int) ([]byte, error) { return generate(secret, cost, true) }},
		{"x/crypto", bcrypt.GenerateFromPassword},
	} {
		b.Run(way.name, func(b *testing.B) {
			for range b.N {
				if _, err := way.hash([]byte("correct horse battery staple"), 10); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
