package issuer

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Each reason that a caller can pass must have a series of its own, except those of sessions that
// ended by themselves.
func TestRevocationReasons_HaveEveryReasonForTheEndOfASession(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "session.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		byItself := reason == string(ReasonIdle) || reason == string(ReasonMaxLifetime)
		if slices.Contains(RevocationReasons, reason) == byItself {
			t.Errorf("%s: RevocationReasons has it: %t, want %t", spec.Names[0].Name, byItself, !byItself)
		}
		return true
	})
	if found < 10 {
		t.Errorf("found %d reasons in session.go", found)
	}
}

func TestRevocation_ReportsUnknownReasonAsOther(t *testing.T) {
	for want, r := range map[string]Revocation{
		"logout":     {Reason: ReasonLogout, SessionID: "s"},
		"token":      {SessionID: "s", TokenID: "t"},
		"attributes": {Generation: 2},
		"other":      {Reason: "of a later release", SessionID: "s"},
	} {
		if got := r.why(); got != want {
			t.Errorf("%+v is reported as %s, want %s", r, got, want)
		}
	}
}

// A fake store and a fake ledger, because a real store fails in these ways only by chance.
type backfillStore struct {
	Store
	leased, stored bool
	err            error
}

func (s backfillStore) Lease(context.Context, session.Ref) (string, bool, error) {
	return "lease", s.leased, nil
}

func (s backfillStore) Backfill(context.Context, string, session.Ref, Snapshot) (bool, error) {
	return s.stored, s.err
}

type finder func() (Record, error)

func (f finder) Find(context.Context, string, string, time.Time) (Record, error) { return f() }

type backfills struct {
	unobserved
	got []string
}

func (b *backfills) Backfilled(outcome string, _, _ time.Duration) { b.got = append(b.got, outcome) }

func TestLedgerFallback_ReportsWhatBecameOfTheBackfill(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	live := Session{Generation: 1, ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(time.Hour), AccessExpiresAt: now.Add(time.Minute)}
	found := finder(func() (Record, error) { return Record{Session: live, SubjectGeneration: 1}, nil })
	away := finder(func() (Record, error) { return Record{}, session.ErrUnavailable })
	full := session.NewLimit(0)
	for _, c := range []struct {
		want   string
		finder Finder
		store  backfillStore
		up     bool
		limit  *session.Limit
	}{
		{"stored", found, backfillStore{leased: true, stored: true}, true, nil},
		{"none", found, backfillStore{}, true, nil},
		{"none", found, backfillStore{leased: true, stored: true}, false, nil},
		{"refused", found, backfillStore{leased: true}, true, nil},
		{"failed", found, backfillStore{leased: true, err: session.ErrUnavailable}, true, nil},
		{"unread", away, backfillStore{leased: true}, true, nil},
		{"unread", found, backfillStore{leased: true}, true, full},
	} {
		b := &backfills{}
		f := LedgerFallback{Store: c.store, Finder: c.finder, Limit: c.limit, Observer: b}
		_, _ = f.Check(t.Context(), session.Question{Now: now, StoreUp: c.up})
		if len(b.got) != 1 || b.got[0] != c.want {
			t.Errorf("reported %q, want %s", b.got, c.want)
		}
	}
}
