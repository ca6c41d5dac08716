package issuer

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/sessiond/sessiond/session"
)

// one and two are servers without a Cluster; the others are masters of a Cluster.
const (
	one, two             = "aa/0/p:", "bb/0/p:"
	masterA, masterB     = "cc/cluster/p:", "dd/cluster/p:"
	promotedA, elsewhere = "ee/cluster/p:", "cc/cluster/q:"
	promotedAgain        = "ff/cluster/p:"
)

func epoch(number int64, server, supersedes string, registered, confirmed int64) Epoch {
	return Epoch{session.Epoch{Number: number, Server: server}, supersedes, registered, confirmed}
}

func TestEpochTable_SaysWhichServersCount(t *testing.T) {
	for _, c := range []struct {
		name    string
		epochs  []Epoch
		current []int64
		admits  map[string]bool // at the time 50,000
	}{
		{"no epoch", nil, nil, map[string]bool{one: true, masterA: true}},
		{
			"a later server supersedes all others",
			[]Epoch{epoch(1, one, "", 1000, 45_000), epoch(2, two, "", 45_000, 49_000)},
			[]int64{2},
			map[string]bool{one: false, "new/0/p:": true, masterA: true},
		},
		{
			"a superseded server may return 10 s after the last confirmation of the other",
			[]Epoch{epoch(1, one, "", 1000, 30_000), epoch(2, two, "", 30_000, 40_000)},
			[]int64{2},
			map[string]bool{one: true},
		},
		{
			"a server that returned has a new epoch",
			[]Epoch{epoch(1, one, "", 1000, 30_000), epoch(2, two, "", 30_000, 35_000), epoch(3, one, "", 49_000, 49_000)},
			[]int64{3},
			map[string]bool{two: false},
		},
		{
			"an epoch that was confirmed before the ledger's clock stepped back retires none",
			[]Epoch{epoch(1, one, "", 1000, 90_000), epoch(2, two, "", 0, 50_000)},
			[]int64{2},
			nil,
		},
		{
			"the masters of a Cluster count together",
			[]Epoch{epoch(1, masterA, "00/cluster/p:", 1000, 49_000), epoch(2, masterB, "00/cluster/p:", 2000, 49_000)},
			[]int64{1, 2},
			nil,
		},
		{
			"a promoted master supersedes its predecessor",
			[]Epoch{epoch(1, masterA, "", 1000, 49_000), epoch(2, masterB, "00/cluster/p:", 2000, 49_000), epoch(3, promotedA, masterA, 48_000, 49_000)},
			[]int64{2, 3},
			map[string]bool{masterA: false},
		},
		{
			"a promoted master supersedes a predecessor without an epoch",
			[]Epoch{epoch(1, masterB, "00/cluster/p:", 2000, 49_000), epoch(2, promotedA, masterA, 48_000, 49_000)},
			[]int64{1, 2},
			map[string]bool{masterA: false},
		},
		{
			"a replaced master may return once nobody uses the one that replaced it",
			[]Epoch{epoch(1, masterB, "00/cluster/p:", 2000, 49_000), epoch(2, promotedA, masterA, 20_000, 38_000)},
			[]int64{1},
			map[string]bool{masterA: true},
		},
		{
			"a replaced master may not return while its heir's heir is used",
			[]Epoch{epoch(1, masterA, "", 1000, 20_000), epoch(2, promotedA, masterA, 20_000, 48_000), epoch(3, promotedAgain, promotedA, 48_000, 49_000)},
			[]int64{3},
			map[string]bool{masterA: false, promotedA: false},
		},
		{
			"a master that nobody has confirmed for 10 s is retired and may return at once",
			[]Epoch{epoch(1, masterA, "00/cluster/p:", 1000, 38_000), epoch(2, masterB, "00/cluster/p:", 2000, 49_000)},
			[]int64{2},
			map[string]bool{masterA: true},
		},
		{
			"a Cluster under another prefix supersedes all masters",
			[]Epoch{epoch(1, masterA, "00/cluster/p:", 1000, 49_000), epoch(2, elsewhere, "00/cluster/q:", 49_000, 49_000)},
			[]int64{2},
			map[string]bool{masterA: false, masterB: true},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := EpochTable{Epochs: c.epochs, Now: 50_000}
			var current []int64
			for _, e := range table.current() {
				current = append(current, e.Number)
			}
			if !slices.Equal(current, c.current) {
				t.Errorf("the current epochs are %v, want %v", current, c.current)
			}
			for server, want := range c.admits {
				if got := table.admits(server); got != want {
					t.Errorf("admits %s: %t, want %t", server, got, want)
				}
			}
		})
	}
}

// An entry of epoch 1 moves with its slot from masterA to masterB, is revoked there, and masterB
// returns to an earlier state as promotedA, which is then removed. The entry moves back to masterA.
func TestEpochTable_EntryThatReturnsWithItsSlotIsNotTrusted(t *testing.T) {
	table := EpochTable{Now: 50_000, Epochs: []Epoch{
		epoch(1, masterA, "00/cluster/p:", 1000, 49_000), epoch(2, masterB, "00/cluster/p:", 2000, 30_000), epoch(3, promotedA, masterB, 30_000, 49_000),
	}}
	if got, want := table.trusted(), []session.Epoch{{Number: 3, Server: masterA}, {Number: 3, Server: promotedA}}; !slices.Equal(got, want) {
		t.Errorf("trusted epochs: %v, want %v", got, want)
	}
	table.Epochs[2].ConfirmedAt = 31_000
	if got, want := table.trusted(), []session.Epoch{{Number: 3, Server: masterA}}; !slices.Equal(got, want) {
		t.Errorf("after the latest server is gone: %v, want %v", got, want)
	}
}

func TestEpochTable_AcknowledgesFourSecondsAfterTheFirstConfirmation(t *testing.T) {
	for _, c := range []struct {
		name    string
		epochs  []Epoch
		servers []string
		want    bool
	}{
		{"no server", nil, nil, false},
		{"a server without an epoch", nil, []string{one}, false},
		{"the first epoch ever", []Epoch{epoch(1, one, "", 0, 1000)}, []string{one}, true},
		{"a later one that was never confirmed", []Epoch{epoch(1, one, "", 1, 1), epoch(2, two, "", 0, 9000)}, []string{two}, false},
		{"a later one after 3.999 s", []Epoch{epoch(1, one, "", 1, 1), epoch(2, two, "", 1000, 4999)}, []string{two}, false},
		{"a later one after 4 s", []Epoch{epoch(1, one, "", 1, 1), epoch(2, two, "", 1000, 5000)}, []string{two}, true},
		{"a superseded server", []Epoch{epoch(1, one, "", 1, 1), epoch(2, two, "", 1000, 5000)}, []string{one}, false},
		{"one of two servers", []Epoch{epoch(1, masterA, "00/cluster/p:", 1, 4000)}, []string{masterA, masterB}, false},
	} {
		table := EpochTable{Epochs: c.epochs, Now: 9000}
		if got := table.settled(c.servers...); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

// onServers is a store that uses these servers.
type onServers struct {
	Store
	servers []Server
	known   session.Epochs
}

func (s *onServers) Servers(context.Context) ([]Server, error) { return s.servers, nil }
func (s *onServers) Epochs() *session.Epochs                   { return &s.known }

// forgetful is a ledger that does not show the epochs that were begun.
type forgetful struct {
	Ledger
	begun int
}

func (l *forgetful) Epochs(context.Context) (EpochTable, error)    { return EpochTable{}, nil }
func (l *forgetful) ConfirmEpochs(context.Context, ...int64) error { return nil }
func (l *forgetful) BeginEpoch(context.Context, int64, Server) error {
	if l.begun++; l.begun > 1 {
		return session.ErrUnavailable // otherwise a poll that begins more epochs would not end
	}
	return nil
}

func TestPollEpochs_BeginsOneEpochAtMost(t *testing.T) {
	ledger := &forgetful{}
	m := &Manager{Store: &onServers{servers: []Server{{ID: one}}}, Ledger: ledger, Log: slog.New(slog.DiscardHandler)}
	m.PollEpochs(t.Context())
	if ledger.begun != 1 {
		t.Errorf("one poll began %d epochs of one server, want 1", ledger.begun)
	}
}

// paused is a ledger whose epochs nobody has confirmed for a minute.
type paused struct {
	Ledger
	table     EpochTable
	confirmed func()
}

func (l *paused) Epochs(context.Context) (EpochTable, error) {
	table := l.table
	table.Epochs = slices.Clone(table.Epochs)
	return table, nil
}

func (l *paused) ConfirmEpochs(_ context.Context, numbers ...int64) error {
	for i, e := range l.table.Epochs {
		if slices.Contains(numbers, e.Number) {
			l.table.Epochs[i].ConfirmedAt = l.table.Now
		}
	}
	l.confirmed()
	return nil
}

// After a pause of all replicas, another replica must not find one master confirmed and the other one
// retired.
func TestPollEpochs_ConfirmsAllMastersAtOnce(t *testing.T) {
	ledger := &paused{table: EpochTable{Now: 90_000, Epochs: []Epoch{
		epoch(1, masterA, "00/cluster/p:", 1000, 30_000), epoch(2, masterB, "00/cluster/p:", 2000, 30_000),
	}}}
	ledger.confirmed = func() {
		if current := ledger.table.current(); len(current) != 2 {
			t.Errorf("another replica finds %+v, want both masters", current)
		}
	}
	m := &Manager{Store: &onServers{servers: []Server{{ID: masterA}, {ID: masterB}}}, Ledger: ledger, Log: slog.New(slog.DiscardHandler)}
	m.PollEpochs(t.Context())
	if err := m.Trusted(); err != nil {
		t.Error(err)
	}
}
