package redisstore

import (
	"bytes"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// here is an epoch, and hereHex its encoding. The encoding of no roles and no claims is none.
const (
	here    = 300
	hereHex = "ac02"
	none    = "0000"
)

// TestEntry_HasFixedEncoding compares the encoded bytes, because replicas of different releases
// read each other's entries.
func TestEntry_HasFixedEncoding(t *testing.T) {
	at := time.Unix(1_700_000_000, 0).UTC()
	for _, c := range []struct {
		entry session.Entry
		hex   string
	}{
		{session.Entry{Ended: true}, "0102"},
		{session.Entry{Generation: 0, ExpiresAt: time.Unix(0, 0).UTC()}, "0105" + hereHex + "0000" + none},
		{session.Entry{Generation: 300, ExpiresAt: at}, "0105" + hereHex + "ac0280e2cfaa06" + none},
		// A token id of 22 base64url characters is encoded as a 0 and 16 bytes.
		{
			session.Entry{Generation: 1, ExpiresAt: at, RevokedTokens: []string{"AAECAwQFBgcICQoLDA0ODw", "AAAAAAAAAAAAAAAAAAAAAA"}},
			"0105" + hereHex + "0180e2cfaa06" + none + "00000102030405060708090a0b0c0d0e0f" + "0000000000000000000000000000000000",
		},
		{
			session.Entry{Generation: 1, ExpiresAt: at, Attributes: session.Attributes{Roles: "admin,ops", Custom: `{"a":1}`}, RevokedTokens: []string{"ab"}},
			"0105" + hereHex + "0180e2cfaa06" + "09" + hex.EncodeToString([]byte("admin,ops")) + "07" + hex.EncodeToString([]byte(`{"a":1}`)) + "036162",
		},
		// Any other token id is encoded as its length plus one, and its text. The last id here is
		// not strict base64url: it decodes to 16 bytes that encode to another text.
		{
			session.Entry{Generation: 1, ExpiresAt: at, RevokedTokens: []string{"ab", "", "AAAAAAAAAAAAAAAAAAAAAB"}},
			"0105" + hereHex + "0180e2cfaa06" + none + "036162" + "01" + "17" + hex.EncodeToString([]byte("AAAAAAAAAAAAAAAAAAAAAB")),
		},
	} {
		if got := hex.EncodeToString(encodeEntry(c.entry, here)); got != c.hex {
			t.Errorf("encodeEntry(%+v) = %s, want %s", c.entry, got, c.hex)
		}
		want, _ := hex.DecodeString(c.hex)
		if got, ok := decodeEntry(want, here); !ok || !same(got, c.entry) {
			t.Errorf("decodeEntry(%s) = %+v, %t, want %+v", c.hex, got, ok, c.entry)
		}
	}
}

func TestDecodeEntry_RefusesValuesInAnotherFormat(t *testing.T) {
	for _, c := range []struct{ why, hex string }{
		{"empty", ""},
		{"version without a state", "01"},
		{"another version", "0203" + hereHex + "0180e2cfaa06"},
		{"version 0", "0003" + hereHex + "0180e2cfaa06"},
		{"text", hex.EncodeToString([]byte("active"))},
		{"state 0", "0100" + hereHex + "0180e2cfaa06"},
		{"state of the format without an epoch", "01010180e2cfaa06"},
		{"state of the format with a lineage", "0103a0010203040506070180e2cfaa06"},
		{"state of the format without roles", "0104" + hereHex + "0180e2cfaa06"},
		{"state 6", "0106" + hereHex + "0180e2cfaa06" + none},
		{"unterminated epoch", "0105ac"},
		{"another epoch", "0105ad02" + "0180e2cfaa06" + none},
		{"epoch 0", "010500" + "0180e2cfaa06" + none},
		{"bytes after an ended entry", "010200"},
		{"missing generation", "0105" + hereHex},
		{"unterminated generation", "0105" + hereHex + "80"},
		{"a generation of 2^63", "0105" + hereHex + "80808080808080808001" + "00"},
		{"a generation of more than 64 bits", "0105" + hereHex + "ffffffffffffffffff7f" + "00"},
		{"missing expiry", "0105" + hereHex + "01"},
		{"unterminated expiry", "0105" + hereHex + "01ff"},
		{"missing roles", "0105" + hereHex + "0101"},
		{"truncated roles", "0105" + hereHex + "0101" + "04" + "616263"},
		{"missing claims", "0105" + hereHex + "0101" + "0161"},
		{"truncated claims", "0105" + hereHex + "0101" + "00" + "027b"},
		{"a raw id of 15 bytes", "0105" + hereHex + "0101" + none + "00" + strings.Repeat("aa", 15)},
		{"truncated text id", "0105" + hereHex + "0101" + none + "04" + "6162"},
		{"a text id of 2^63 - 2 bytes", "0105" + hereHex + "0101" + none + "ffffffffffffffff7f"},
		{"unterminated length of an id", "0105" + hereHex + "0101" + none + "80"},
	} {
		value, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := decodeEntry(value, here); ok {
			t.Errorf("%s: decodeEntry(%s) = %+v, want no entry", c.why, c.hex, got)
		}
	}
}

// TestEncodeEntry_MakesInvalidEntryUnreadable checks that a negative number in an entry is not
// encoded as another, valid number.
func TestEncodeEntry_MakesInvalidEntryUnreadable(t *testing.T) {
	for _, e := range []session.Entry{
		{Generation: -1, ExpiresAt: time.Unix(1, 0)},
		{Generation: 1, ExpiresAt: time.Time{}},
	} {
		if got, ok := decodeEntry(encodeEntry(e, here), here); ok {
			t.Errorf("%+v was decoded as %+v, want no entry", e, got)
		}
	}
}

func TestDecodeEntry_ReturnsTheEncodedEntry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`[A-Za-z0-9_-]{21,23}`),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), idEncoding.EncodeToString),
		)
		want := session.Entry{Ended: rapid.Bool().Draw(t, "ended")}
		if !want.Ended {
			want.Generation = rapid.Int64Range(0, math.MaxInt64).Draw(t, "generation")
			want.ExpiresAt = time.Unix(rapid.Int64Range(0, math.MaxInt32*100).Draw(t, "expiry"), 0).UTC()
			want.Roles, want.Custom = session.Roles(rapid.String().Draw(t, "roles")), rapid.String().Draw(t, "claims")
			want.RevokedTokens = rapid.SliceOf(ids).Draw(t, "revoked")
		}
		value := encodeEntry(want, here)
		got, ok := decodeEntry(value, here)
		if !ok || !same(got, want) {
			t.Fatalf("decodeEntry(%x) = %+v, %t, want %+v", value, got, ok, want)
		}
		// A truncated value must not decode to a valid entry. This check skips entries with revoked
		// tokens, because such an entry stays valid if it is truncated between two of its tokens.
		if len(want.RevokedTokens) == 0 {
			for n := range value {
				if got, ok := decodeEntry(value[:n], here); ok {
					t.Fatalf("the first %d bytes of %x are decoded as %+v, want no entry", n, value, got)
				}
			}
		}
	})
}

func FuzzDecodeEntry_ReturnsEqualEntryAfterEncodingAgain(f *testing.F) {
	f.Add([]byte{})
	f.Add(endedEntry)
	f.Add(encodeEntry(session.Entry{Generation: 3, ExpiresAt: time.Unix(1_700_000_000, 0)}, here))
	f.Add(encodeEntry(session.Entry{Generation: 1, ExpiresAt: time.Unix(1, 0), RevokedTokens: []string{issuer.NewID(), "x", ""}}, here))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, ok := decodeEntry(value, here)
		if !ok {
			if !same(e, session.Entry{}) {
				t.Fatalf("decodeEntry reports false but returns %+v", e)
			}
			return
		}
		// The bytes may differ, because a number has several encodings. The entries must be equal.
		again, ok := decodeEntry(encodeEntry(e, here), here)
		if !ok || !same(again, e) {
			t.Fatalf("%x is decoded as %+v, which is encoded and decoded as %+v, %t", value, e, again, ok)
		}
		if e.Ended && !bytes.Equal(value, endedEntry) {
			t.Fatalf("%x decodes to an ended entry, want only %x", value, endedEntry)
		}
	})
}

func same(a, b session.Entry) bool {
	return a.Ended == b.Ended && a.Generation == b.Generation && a.ExpiresAt.Equal(b.ExpiresAt) &&
		a.Attributes == b.Attributes && slices.Equal(a.RevokedTokens, b.RevokedTokens)
}
