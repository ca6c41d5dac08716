package audit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"time"
)

// Event is an entry of the audit trail. It stays after its user is deleted. Therefore it has no personal data
// of that user, unless an operator wrote some into a reason, into claims or into the filter of a revocation.
type Event struct {
	Seq       int64     // by which the store finds the event; not in the order of time
	Number    int64     // the place in the chain, from 1 on; 0 until the event is sealed
	Previous  []byte    // the hash of the event with the number before; empty for the first one
	At        time.Time // UTC with microseconds
	Type      string    // such as "session.ended"
	UserID    string    // the user that the event is about; empty if it is about none
	SessionID string
	Actor     string // see [Act]
	ActorID   string // see [Act]; empty without an act
	Address   string // see [Act]
	Detail    string
	Before    string // the value before the act
	After     string // the value after the act
	Reason    string // see [Act]
}

// Hash returns the hash of the event, over all its fields. The next event in the chain has it as Previous.
func (e *Event) Hash() []byte {
	text, err := json.Marshal([]string{
		strconv.FormatInt(e.Number, 10), hexOf(e.Previous), strconv.FormatInt(e.Seq, 10),
		e.At.UTC().Format(time.RFC3339Nano), e.Type, e.UserID, e.SessionID,
		e.Actor, e.ActorID, e.Address, e.Detail, e.Before, e.After, e.Reason,
	})
	if err != nil {
		panic(err) // a list of texts can always be encoded
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// Query selects sealed events.
type Query struct {
	After  int64  // only events with a higher number
	Type   string // if not empty, only events of this type
	UserID string // if not empty, only events about this user
	Limit  int
}

// Head is the end of the chain.
type Head struct {
	Number    int64  // of the last sealed event; 0 if there is none
	Hash      []byte // of that event; empty if there is none
	Forgotten int64  // events with numbers up to this one may be gone, because they were too old
}

// Store stores the events. If the database fails, the error wraps identity.ErrUnavailable.
type Store interface {
	// Events returns sealed events in the order of their numbers.
	Events(ctx context.Context, q Query) ([]Event, error)
	// Seal gives at most limit events the next numbers and the hashes of the events before. It returns them,
	// and none while another replica seals.
	Seal(ctx context.Context, limit int) ([]Event, error)
	// Head returns the end of the chain.
	Head(ctx context.Context) (Head, error)
	// Record adds an event.
	Record(ctx context.Context, e Event) error
}
