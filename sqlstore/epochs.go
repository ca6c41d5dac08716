package sqlstore

import (
	"context"

	"github.com/sessiond/sessiond/session/issuer"
)

// nowMS is the database's time in Unix milliseconds. It is an integer, because both databases can
// calculate with that.
const nowMS = `(extract(epoch FROM clock_timestamp()) * 1000)::bigint`

var (
	// An epoch of yesterday has no entries any more, except that the next number follows the latest.
	// Each topic has a min of its own, because that takes one step in an index.
	readEpochs = newStatement(`
		SELECT epoch AS number, server, supersedes, registered_at, confirmed_at, ` + nowMS + ` AS now,
			(SELECT min(queued_at) FROM (
				SELECT min(queued_at) AS queued_at FROM outbox WHERE topic = '` + topicRevocation + `'
				UNION ALL SELECT min(queued_at) FROM outbox WHERE topic = '` + topicEarlier + `') AS oldest) AS pending
		FROM redis_epochs WHERE confirmed_at > ` + nowMS + ` - 86400000 OR epoch = (SELECT max(epoch) FROM redis_epochs) ORDER BY epoch`)
	insertEpoch = newStatement(`
		INSERT INTO redis_epochs (epoch, server, supersedes, registered_at, confirmed_at)
		VALUES (?, ?, ?, 0, ` + nowMS + `) ON CONFLICT DO NOTHING`)
	// The time counts from this statement and not from the insertion, because the commit of that may
	// have hung. A gap is 1.5 s: replicas confirm once a second. If this clock was ahead and has
	// stepped back, the time counts anew.
	confirmEpochs = `
		UPDATE redis_epochs SET confirmed_at = ` + nowMS + `, registered_at = CASE
			WHEN registered_at = 0 OR confirmed_at > ` + nowMS + `
				OR confirmed_at < registered_at + 4000 AND confirmed_at < ` + nowMS + ` - 1500 THEN ` + nowMS + `
			ELSE registered_at END
		WHERE epoch IN (?) AND (registered_at = 0 OR confirmed_at NOT BETWEEN ` + nowMS + ` - 500 AND ` + nowMS + `)`
	clearEpochs = newStatement(`DELETE FROM redis_epochs`)
)

// Epochs implements [issuer.Ledger].
func (s *Sessions) Epochs(ctx context.Context) (issuer.EpochTable, error) {
	var rows []struct {
		issuer.Epoch
		Now     int64
		Pending timestamp
	}
	var table issuer.EpochTable
	if err := s.epochs.list(ctx, &rows, readEpochs); err != nil {
		return table, s.wrap("read the epochs", err)
	}
	for _, row := range rows {
		table.Epochs = append(table.Epochs, row.Epoch)
		table.Now, table.Pending = row.Now, row.Pending.Time
	}
	return table, nil
}

// BeginEpoch implements [issuer.Ledger].
func (s *Sessions) BeginEpoch(ctx context.Context, number int64, server issuer.Server) error {
	return s.wrap("begin an epoch", s.epochs.exec(ctx, insertEpoch, number, server.ID, server.Supersedes))
}

// ConfirmEpochs implements [issuer.Ledger].
func (s *Sessions) ConfirmEpochs(ctx context.Context, numbers ...int64) error {
	return s.wrap("confirm epochs", s.epochs.execFor(ctx, numbers, confirmEpochs))
}

// ClearEpochs forgets all epochs. It is for a Redis that starts empty with its only reader, which
// then need not wait.
func (s *Sessions) ClearEpochs(ctx context.Context) error {
	return s.wrap("clear the epochs", s.epochs.exec(ctx, clearEpochs))
}
