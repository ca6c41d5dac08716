package identity

import (
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// registrationTTL is how long a registration waits for its address to be confirmed. The mailed link
// works as long. After that the username and the address are free again.
const registrationTTL = 24 * time.Hour

// Service has the rules about users. It returns the errors of this package, [FieldErrors], a fault, or
// the context's error if the context ended before a password was hashed.
type Service struct {
	Store  Store
	Hasher *hashing.Hasher
	// Now is the clock that all replicas share.
	Now func() time.Time
	// PasswordMinLength is in characters. Less than 8 means 8.
	PasswordMinLength int
	// MailEnabled says that mail is delivered. Without it, methods that need mail return ErrMailDisabled.
	MailEnabled bool
	// ResetTTL is how long the link of a reset works, counted from its sending; 0: 10 minutes.
	ResetTTL time.Duration
	// NewID returns a new user id: 22 URL-safe characters with 128 random bits.
	NewID func() string
	// NewTimedID returns the id of a failed login, which sorts by its time.
	NewTimedID func(time.Time) string
	Log        *slog.Logger
	// DeviceSecret signs the device tokens of all replicas. Empty: no device gets a token or is known.
	DeviceSecret []byte
	// Breaches knows breached passwords, which nobody may choose. Nil: only common passwords are refused.
	Breaches BreachList
	// BreachesRequired refuses new passwords while Breaches does not answer.
	BreachesRequired bool
	// Observer may be nil.
	Observer Observer
	// Limits bounds how often clients may try. Nil: no limits.
	Limits *limit.Failover

	breachWarning warning
}

// Origin describes the client of a request. Its texts are valid UTF-8.
type Origin struct {
	IP        string
	UserAgent string // at most 512 bytes
	Device    string // readable, as "Chrome on macOS"
	// DeviceToken is what the client sent as its device token: any text, or empty.
	DeviceToken string
	// Session is the id of a signed-in client's session.
	Session string
	// Quota, unless nil, receives the decision of the rate limits.
	Quota *limit.Decision
}

// Observer receives the decisions that protect logins, for metrics. Its methods must not block.
type Observer interface {
	// Limited reports a decision about an action (see package limit): whether it was allowed, and whether
	// the shared limits decided or, with Redis down, this replica's own.
	Limited(action string, allowed, shared bool)
	// Breached reports a check of a new password: "no", "yes" or "unavailable".
	Breached(answer string)
}

// unobserved is the Observer of a Service without one.
type unobserved struct{}

func (unobserved) Limited(string, bool, bool) {}
func (unobserved) Breached(string)            {}

func (s *Service) observer() Observer {
	if s.Observer == nil {
		return unobserved{}
	}
	return s.Observer
}

// now returns the time as the stores keep it: in UTC with microseconds.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

// noticeTo returns a mail to a user about their account.
func noticeTo(u User, kind mail.Kind) mail.Envelope {
	return mail.Envelope{Kind: kind, UserID: u.ID, To: u.Email, Name: u.Username}
}

// storable reports whether the store can look up a name. For other texts, a database returns an error
// instead of no row.
func storable(name string) bool {
	return name != "" && len(name) <= max(maxEmail, maxUsername*utf8.UTFMax) &&
		utf8.ValidString(name) && strings.IndexByte(name, 0) < 0
}

// registrationExpired reports whether a registration was not confirmed in time.
func registrationExpired(u User, now time.Time) bool {
	return u.Status == StatusPending && u.CreatedAt.Before(now.Add(-registrationTTL))
}

// stalePending returns the time before which pending users' registrations have expired.
func (s *Service) stalePending() time.Time { return s.now().Add(-registrationTTL) }
