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

const (
	// confirmTTL is how long a person may take to follow the link that confirms an email address. After
	// that time, other users can take the username of a registration.
	confirmTTL = 24 * time.Hour
	// undoTTL is how long the earlier address can undo a change of email. It is longer than confirmTTL.
	// Otherwise a thief could wait until nobody can undo the change, and then confirm it.
	undoTTL = 72 * time.Hour
)

// Service has the rules about users. Its methods return the errors of this package, [FieldErrors], or
// the context's error if the context ended before a password was hashed. Other errors are faults.
type Service struct {
	Store  Store
	Hasher *hashing.Hasher
	// Now is the clock that all replicas share.
	Now func() time.Time
	// PasswordMinLength is the minimum length of a new password in characters. Values below 8 mean 8.
	PasswordMinLength int
	// MailEnabled says whether mail is delivered. If not, methods that need mail return ErrMailDisabled.
	MailEnabled bool
	// RegistrationClosed says that nobody can register.
	RegistrationClosed bool
	// Domains are the domains of the email addresses that people may register with or change to. If it is
	// empty, all domains are allowed.
	Domains []string
	// ReservedNames are usernames that nobody can register, in any spelling.
	ReservedNames []string
	// ResetTTL is how long the link in a reset mail works after the mail is sent. 0 means 10 minutes.
	ResetTTL time.Duration
	// NewID returns a new user id: 22 URL-safe characters with 128 random bits.
	NewID func() string
	// NewTimedID returns an id for a failed login at the given time. Such ids sort by time.
	NewTimedID func(time.Time) string
	Log        *slog.Logger
	// DeviceSecret signs the device tokens of all replicas. If it is empty, there are no device tokens.
	DeviceSecret []byte
	// Breaches is the list of breached passwords, which are refused. If it is nil, there is no such check.
	Breaches BreachList
	// BreachesRequired says to refuse every new password while Breaches does not answer.
	BreachesRequired bool
	// Observer receives the results of checks. It may be nil.
	Observer Observer
	// Limits bounds how often clients may guess, register or request mail. If nil, there is no bound.
	Limits *limit.Failover

	breachWarning warning
}

// Origin describes the client of a request. All texts in it are valid UTF-8.
type Origin struct {
	IP          string
	UserAgent   string          // at most 512 bytes
	Device      string          // for people to read, such as "Chrome on macOS"
	DeviceToken string          // the text that the client sent as its device token; may be empty
	Session     string          // id of the session, if the client is signed in
	Quota       *limit.Decision // if not nil, receives the decision of the rate limits
}

// Observer receives results of rate limits and password checks, for metrics. It must not block.
type Observer interface {
	// Limited reports whether an action (see package limit) was allowed. The parameter shared says whether
	// the rate limits of all replicas decided, in Redis. While Redis is down, each replica decides alone.
	Limited(action string, allowed, shared bool)
	// Refused reports which rule of the rate limits refused a request. The account is the folded login name,
	// the email address or the user's id; it is empty if the request names no account. The network is the
	// client's; see [limit.Network].
	Refused(rule, account, network string)
	// Breached reports whether a new password is on the list of breached passwords: "no", "yes" or
	// "unavailable".
	Breached(answer string)
	// Finished reports the outcome of a login, a registration or a step of a password reset. Outcomes has
	// the names of both.
	Finished(action, outcome string)
}

// unobserved replaces a nil Observer.
type unobserved struct{}

func (unobserved) Limited(string, bool, bool) {}
func (unobserved) Refused(_, _, _ string)     {}
func (unobserved) Breached(string)            {}
func (unobserved) Finished(_, _ string)       {}

func (s *Service) observer() Observer {
	if s.Observer == nil {
		return unobserved{}
	}
	return s.Observer
}

// now returns the time in UTC in whole microseconds, because databases store no finer time.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

// noticeTo returns a mail for the outbox that tells a user about their account. If the user has not
// confirmed the email address, which may be a stranger's, the mail has no recipient and is not sent.
func noticeTo(u User, kind mail.Kind) mail.Envelope {
	notice := mail.Envelope{Kind: kind, UserID: u.ID}
	if !u.EmailVerifiedAt.IsZero() {
		notice.To = u.Email
	}
	return notice
}

// storable reports whether the store can look up a username or email address. For invalid UTF-8, for
// example, a database would return an error instead of no row.
func storable(name string) bool {
	return name != "" && len(name) <= max(maxEmail, maxUsername*utf8.UTFMax) &&
		utf8.ValidString(name) && strings.IndexByte(name, 0) < 0
}

// registrationExpired reports whether u did not confirm the email address in time.
func registrationExpired(u User, now time.Time) bool {
	return u.Status == StatusPending && u.CreatedAt.Before(now.Add(-confirmTTL))
}

// stalePending returns a past time. An unconfirmed registration from before that time has expired.
func (s *Service) stalePending() time.Time { return s.now().Add(-confirmTTL) }
