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

var here = lineage{0xa0, 1, 2, 3, 4, 5, 6, 7}

const hereHex = "a001020304050607"

// TestEntryBytes pins the encoding: replicas of two releases read each other's.
func TestEntryBytes(t *testing.T) {
	at := time.Unix(1_700_000_000, 0).UTC()
	for _, c := range []struct {
		entry session.Entry
		hex   string
	}{
		{session.Entry{Ended: true}, "0102"},
		{session.Entry{Generation: 0, ExpiresAt: time.Unix(0, 0).UTC()}, "0103" + hereHex + "0000"},
		{session.Entry{Generation: 300, ExpiresAt: at}, "0103" + hereHex + "ac0280e2cfaa06"},
		// 22 characters of base64url are 16 bytes after a 0.
		{
			session.Entry{Generation: 1, ExpiresAt: at, RevokedTokens: []string{"AAECAwQFBgcICQoLDA0ODw", "AAAAAAAAAAAAAAAAAAAAAA"}},
			"0103" + hereHex + "0180e2cfaa06" + "00000102030405060708090a0b0c0d0e0f" + "0000000000000000000000000000000000",
		},
		// Any other text is its length plus one and itself: the last one decodes
		// to 16 bytes too, but is not how they are written.
		{
			session.Entry{Generation: 1, ExpiresAt: at, RevokedTokens: []string{"ab", "", "AAAAAAAAAAAAAAAAAAAAAB"}},
			"0103" + hereHex + "0180e2cfaa06" + "036162" + "01" + "17" + hex.EncodeToString([]byte("AAAAAAAAAAAAAAAAAAAAAB")),
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

func TestForeignValuesAreNoEntries(t *testing.T) {
	for _, c := range []struct{ why, hex string }{
		{"nothing", ""},
		{"a version and no state", "01"},
		{"another version", "0203" + hereHex + "0180e2cfaa06"},
		{"no version of ours", "0003" + hereHex + "0180e2cfaa06"},
		{"text", hex.EncodeToString([]byte("active"))},
		{"an unknown state", "0100" + hereHex + "0180e2cfaa06"},
		{"a state from before there were lineages", "01010180e2cfaa06"},
		{"an unknown state", "0104" + hereHex + "0180e2cfaa06"},
		{"a part of a lineage", "0103a0010203040506"},
		{"another lineage", "0103a001020304050608" + "0180e2cfaa06"},
		{"an end with something behind it", "010200"},
		{"no generation", "0103" + hereHex},
		{"a generation that does not end", "0103" + hereHex + "80"},
		{"a generation of 2^63", "0103" + hereHex + "80808080808080808001" + "00"},
		{"a generation of more than 64 bits", "0103" + hereHex + "ffffffffffffffffff7f" + "00"},
		{"no expiry", "0103" + hereHex + "01"},
		{"an expiry that does not end", "0103" + hereHex + "01ff"},
		{"a raw id of 15 bytes", "0103" + hereHex + "0101" + "00" + strings.Repeat("aa", 15)},
		{"a text id that is cut off", "0103" + hereHex + "0101" + "04" + "6162"},
		{"a text id of 2^63 - 2 bytes", "0103" + hereHex + "0101" + "ffffffffffffffff7f"},
		{"an id whose length does not end", "0103" + hereHex + "0101" + "80"},
	} {
		value, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := decodeEntry(value, here); ok {
			t.Errorf("%s: decodeEntry(%s) = %+v", c.why, c.hex, got)
		}
	}
}

// TestUnwritableIsUnknown: an entry that cannot be written is one that cannot be
// read, and not another one.
func TestUnwritableIsUnknown(t *testing.T) {
	for _, e := range []session.Entry{
		{Generation: -1, ExpiresAt: time.Unix(1, 0)},
		{Generation: 1, ExpiresAt: time.Time{}},
	} {
		if got, ok := decodeEntry(encodeEntry(e, here), here); ok {
			t.Errorf("%+v became %+v", e, got)
		}
	}
}

func TestEntryRoundTrip(t *testing.T) {
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
			want.RevokedTokens = rapid.SliceOf(ids).Draw(t, "revoked")
		}
		value := encodeEntry(want, here)
		got, ok := decodeEntry(value, here)
		if !ok || !same(got, want) {
			t.Fatalf("%x: got %+v, %t, want %+v", value, got, ok, want)
		}
		// Of an active entry no beginning is an entry with other facts, but for
		// the list of revoked tokens, which Redis never cuts.
		if len(want.RevokedTokens) == 0 {
			for n := range value {
				if got, ok := decodeEntry(value[:n], here); ok {
					t.Fatalf("the first %d bytes of %x are %+v", n, value, got)
				}
			}
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add(endedEntry)
	f.Add(encodeEntry(session.Entry{Generation: 3, ExpiresAt: time.Unix(1_700_000_000, 0)}, here))
	f.Add(encodeEntry(session.Entry{Generation: 1, ExpiresAt: time.Unix(1, 0), RevokedTokens: []string{issuer.NewID(), "x", ""}}, here))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, ok := decodeEntry(value, here)
		if !ok {
			if !same(e, session.Entry{}) {
				t.Fatalf("not an entry, and yet %+v", e)
			}
			return
		}
		// Numbers have several spellings, so the bytes may differ; what they say may not.
		again, ok := decodeEntry(encodeEntry(e, here), here)
		if !ok || !same(again, e) {
			t.Fatalf("%x: %+v became %+v, %t", value, e, again, ok)
		}
		if e.Ended && !bytes.Equal(value, endedEntry) {
			t.Fatalf("%x is an end too", value)
		}
	})
}

func same(a, b session.Entry) bool {
	return a.Ended == b.Ended && a.Generation == b.Generation && a.ExpiresAt.Equal(b.ExpiresAt) &&
		slices.Equal(a.RevokedTokens, b.RevokedTokens)
}
