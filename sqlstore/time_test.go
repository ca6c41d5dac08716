package sqlstore_test

import (
	"cmp"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sessiond/sessiond/sqlstore"
)

func TestTimestamp_SQLiteTextsSortLikeTimes(t *testing.T) {
	instant := rapid.Custom(func(t *rapid.T) time.Time {
		// Many of these times have a short fraction of a second, so that the texts have different
		// lengths.
		unit := rapid.SampledFrom([]int64{1, 1000, 100_000, 1_000_000}).Draw(t, "unit")
		micros := rapid.Int64Range(0, 4_000_000_000_000_000/unit).Draw(t, "units") * unit
		zone := time.FixedZone("", 3600*rapid.IntRange(-12, 14).Draw(t, "zone"))
		return time.UnixMicro(micros).In(zone)
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := instant.Draw(t, "a"), instant.Draw(t, "b")
		if rapid.Bool().Draw(t, "near") {
			b = a.Add(time.Duration(rapid.IntRange(-2_000_000, 2_000_000).Draw(t, "apart")) * time.Microsecond)
		}
		textA, textB := sqlstore.SQLiteText(a), sqlstore.SQLiteText(b)
		if got, want := cmp.Compare(textA, textB), a.Compare(b); got != want {
			t.Fatalf("the texts %q and %q compare as %d, the times as %d", textA, textB, got, want)
		}
		back, err := sqlstore.ReadTime(textA)
		if err != nil || back != a.UTC() {
			t.Fatalf("%q is read as %v (%v), want %v", textA, back, err, a.UTC())
		}
	})
}

func TestTimestamp_ScanRefusesOtherTypesAndFormats(t *testing.T) {
	for _, src := range []any{"yesterday", "", int64(7), []byte("2031-05-06")} {
		if got, err := sqlstore.ReadTime(src); err == nil {
			t.Errorf("%v (%T) is read as %v, want an error", src, src, got)
		}
	}
	if got, err := sqlstore.ReadTime(nil); err != nil || !got.IsZero() {
		t.Errorf("NULL is read as %v (%v), want the zero time", got, err)
	}
}
