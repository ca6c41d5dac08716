package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	sealInterval = time.Second
	sealBatch    = 500
	// anchorInterval is how often the end of the chain is logged. Somebody who can write the database could
	// make a new chain, but not change the log.
	anchorInterval = time.Hour
	verifyBatch    = 1000
)

// Sealer adds new events to the chain. All replicas may run one, because the store lets one of them seal at
// a time. Logins do not wait for it.
type Sealer struct {
	Store Store
	Log   *slog.Logger
	// Copy, if not nil, receives each sealed event as a line of JSON. Only the replica that sealed an event
	// writes it.
	Copy io.Writer

	anchored time.Time
}

// Run seals events every second until ctx ends.
func (s *Sealer) Run(ctx context.Context) {
	tick := time.NewTicker(sealInterval)
	defer tick.Stop()
	for {
		if err := s.Seal(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "new audit events are not sealed yet", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Seal seals all new events.
func (s *Sealer) Seal(ctx context.Context) error {
	for {
		sealed, err := s.Store.Seal(ctx, sealBatch)
		if err != nil {
			return err
		}
		if len(sealed) > 0 {
			s.copy(ctx, sealed)
			s.anchor(ctx, &sealed[len(sealed)-1])
		}
		if len(sealed) < sealBatch {
			return nil
		}
	}
}

func (s *Sealer) copy(ctx context.Context, sealed []Event) {
	if s.Copy == nil {
		return
	}
	var lines bytes.Buffer
	for i := range sealed {
		lines.Write(sealed[i].JSON())
		lines.WriteByte('\n')
	}
	if _, err := s.Copy.Write(lines.Bytes()); err != nil {
		s.Log.WarnContext(ctx, "audit events were not copied; sessiond admin events list shows them",
			slog.Int64("first", sealed[0].Number), slog.Int("count", len(sealed)), slog.Any("error", err))
	}
}

func (s *Sealer) anchor(ctx context.Context, last *Event) {
	if now := time.Now(); now.Sub(s.anchored) >= anchorInterval {
		s.anchored = now
		s.Log.InfoContext(ctx, "audit events are sealed", slog.String("head", Head{Number: last.Number, Hash: last.Hash()}.String()))
	}
}

// JSON returns the event as a JSON object without a line break.
func (e *Event) JSON() []byte {
	text, err := json.Marshal(struct {
		Number    int64     `json:"number"`
		At        time.Time `json:"at"`
		Type      string    `json:"type"`
		UserID    string    `json:"user_id"`
		SessionID string    `json:"session_id"`
		Actor     string    `json:"actor"`
		ActorID   string    `json:"actor_id"`
		Address   string    `json:"address"`
		Detail    string    `json:"detail"`
		Before    string    `json:"before"`
		After     string    `json:"after"`
		Reason    string    `json:"reason"`
		Hash      string    `json:"hash"`
	}{
		e.Number, e.At, e.Type, e.UserID, e.SessionID, e.Actor, e.ActorID, e.Address,
		e.Detail, e.Before, e.After, e.Reason, hexOf(e.Hash()),
	})
	if err != nil {
		panic(err) // such a struct can always be encoded
	}
	return text
}

// String returns the head as "NUMBER:HASH", which [ParseHead] reads.
func (h Head) String() string { return strconv.FormatInt(h.Number, 10) + ":" + hexOf(h.Hash) }

// ParseHead reads a head that was noted earlier.
func ParseHead(text string) (Head, error) {
	number, hash, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	sum, errHash := hex.DecodeString(hash)
	if err != nil || errHash != nil || n < 1 || len(sum) != 32 {
		return Head{}, fmt.Errorf("want NUMBER:HASH, as the log and the command verify print it")
	}
	return Head{Number: n, Hash: sum}, nil
}

// Fault is what [Verify] found wrong. It says where.
type Fault struct {
	Number int64 // of the event
	Text   string
}

func (f *Fault) Error() string { return fmt.Sprintf("event %d: %s", f.Number, f.Text) }

// Report is what [Verify] found in order.
type Report struct {
	Head  Head  // the end of the chain
	First int64 // the number of the first event that is there; 0 if there is none
}

// Verify reads the whole chain. Its error is a *[Fault] if an event was changed or removed, or if an event whose
// hash was noted earlier is not there. The oldest events may be gone, because the retention removes them.
// progress is called after each batch.
func Verify(ctx context.Context, store Store, noted []Head, progress func(done, last int64)) (Report, error) {
	head, err := store.Head(ctx)
	report := Report{Head: head}
	if err != nil {
		return report, err
	}
	want := make(map[int64][]byte, len(noted))
	for _, h := range noted {
		want[h.Number] = h.Hash
	}
	var last Event // zero before the first one
	for last.Number < head.Number {
		events, err := store.Events(ctx, Query{After: last.Number, Limit: verifyBatch})
		if err != nil {
			return report, err
		}
		before := last.Number
		for i := range events {
			e := &events[i]
			if e.Number > head.Number {
				break // sealed after the head was read
			}
			if e.Number > max(last.Number, head.Forgotten)+1 {
				// The retention may have removed events since the head was read.
				now, err := store.Head(ctx)
				if err != nil {
					return report, err
				}
				if head.Forgotten = now.Forgotten; e.Number > max(last.Number, head.Forgotten)+1 {
					return report, &Fault{max(last.Number, head.Forgotten) + 1, "is missing"}
				}
			}
			if e.Number == last.Number+1 && !bytes.Equal(e.Previous, hashBefore(&last)) {
				return report, &Fault{max(last.Number, 1), "was changed"}
			}
			if last = *e; report.First == 0 {
				report.First = e.Number
			}
			if hash, ok := want[e.Number]; ok && !bytes.Equal(hash, e.Hash()) {
				return report, &Fault{e.Number, "is not the one whose hash was noted"}
			}
			delete(want, e.Number)
		}
		if last.Number == before {
			break
		}
		progress(last.Number, head.Number)
	}
	switch {
	case last.Number < head.Number && head.Number > head.Forgotten:
		return report, &Fault{last.Number + 1, "is missing, and all events after it"}
	case last.Number > 0 && last.Number == head.Number && !bytes.Equal(last.Hash(), head.Hash):
		return report, &Fault{last.Number, "was changed"}
	}
	for number := range want {
		return report, &Fault{number, "was noted, and is not there; only the retention may have removed it"}
	}
	return report, nil
}

// hashBefore returns what the event after e has as Previous.
func hashBefore(e *Event) []byte {
	if e.Number == 0 {
		return nil
	}
	return e.Hash()
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
