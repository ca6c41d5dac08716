package identity

import (
	"errors"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// product is how mails call this service.
const product = "sessiond"

// pendingTTL is how long a registration waits for its address to be confirmed;
// the mailed link lives as long. After it the name and the address are free again.
const pendingTTL = 24 * time.Hour

// Service holds the rules about users. Errors are those of this package,
// [FieldErrors], or a fault; a context's error where it ended before a password
// was hashed.
type Service struct {
	Store  Store
	Hasher *hashing.Hasher
	// Now is the clock that all replicas share.
	Now func() time.Time
	// PasswordMinLength is in characters; less than 8 means 8.
	PasswordMinLength int
	// MailEnabled tells that somebody delivers the mail; without it whatever
	// needs a mail to arrive is ErrMailDisabled.
	MailEnabled bool
	// ResetTTL is how long the link of a reset works, counted from its sending; 0 means 10 minutes.
	ResetTTL time.Duration
	// NewID makes the id of a user: 22 URL-safe characters, 128 random bits.
	NewID func() string
	// NewTimedID makes the id of a failed login, which sorts by its time.
	NewTimedID func(time.Time) string
	Log        *slog.Logger
	// DeviceSecret is what all replicas know device tokens by. Empty: none is
	// given out, and no device is known.
	DeviceSecret []byte
	// Breaches knows passwords that nobody may choose any more. Nil: only the list
	// of common ones does.
	Breaches BreachList
	// BreachesRequired refuses new passwords while Breaches does not answer.
	BreachesRequired bool
	// Observer is told what the protection of logins does. Nil: nobody is.
	Observer Observer
	// Limits bound how often somebody may try. Nil: nothing does.
	Limits *limit.Failover

	breachesWarned lastWarned
}

// Origin says where a login came from. Its texts are valid UTF-8.
type Origin struct {
	IP        string
	UserAgent string // at most 512 bytes
	Device    string // readable, as "Chrome on macOS"
	// DeviceToken is what the device was given when it signed in before; may be
	// empty, and anything else.
	DeviceToken string
	// Session is that of who is signed in.
	Session string
	// Quota is told what the limits said. Nil: nobody is.
	Quota *limit.Decision
}

func (s *Service) observer() Observer {
	if s.Observer == nil {
		return unobserved{}
	}
	return s.Observer
}

// now is in what the stores keep: UTC with microseconds.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

func (s *Service) checkNewPassword(password string, words ...string) *problem {
	return checkPassword(password, s.PasswordMinLength, words...)
}

// noticeTo is a mail to a user about their account.
func noticeTo(u User, kind mail.Kind) mail.Envelope {
	return mail.Envelope{Kind: kind, UserID: u.ID, To: u.Email, Name: u.Username}
}

// storable tells whether the store can be asked for a name at all: a database
// refuses other texts with an error instead of finding nothing.
func storable(name string) bool {
	return name != "" && len(name) <= max(maxEmail, maxUsername*utf8.UTFMax) &&
		utf8.ValidString(name) && strings.IndexByte(name, 0) < 0
}

// free turns a look-up into an answer whether the name is still to be had: a
// stale registration holds none.
func (s *Service) free(u User, err error) (bool, error) {
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	}
	return lapsed(u, s.now()), nil
}

// lapsed tells whether a registration was not confirmed in time.
func lapsed(u User, now time.Time) bool {
	return u.Status == StatusPending && u.CreatedAt.Before(now.Add(-pendingTTL))
}

// stalePending is the time before which a pending user's registration lapsed.
func (s *Service) stalePending() time.Time { return s.now().Add(-pendingTTL) }
