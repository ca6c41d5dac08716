package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Postman delivers what is in the outbox. Each mail is sent at least once, and
// twice only when a replica dies between sending it and noting so; any number of
// replicas may run one.
type Postman struct {
	Store Store
	// Mailer sends. nil: no mail is configured, and what was queued is dropped.
	Mailer Mailer
	// Now is the clock that all replicas share.
	Now func() time.Time
	// ResetTTL is how long the link of a reset works, counted from its sending;
	// 0 means 10 minutes.
	ResetTTL time.Duration
	// PublicURL is where people reach this service. Links are made of it and
	// of nothing that a request said.
	PublicURL string
	// ResetURL and VerifyURL are the pages that the links of the two mails lead
	// to; empty means reset and verify under PublicURL. The first takes the token as
	// the query parameter resetPasswordToken, the second as the fragment token=…
	ResetURL, VerifyURL string
	Log                 *slog.Logger

	once sync.Once
	wake chan struct{}
}

const (
	defaultResetTTL = 10 * time.Minute
	verifyTTL       = pendingTTL

	mailPoll = time.Second
	// mailLease outlives the sending of a batch, so that no other replica
	// sends the same mails meanwhile.
	mailLease   = time.Minute
	mailTimeout = 30 * time.Second
	mailBatch   = 8 // sent at the same time

	firstRetry = 2 * time.Second
	lastRetry  = 10 * time.Minute
)

// Run delivers mail until ctx is done: every second, and at once after [Postman.Wake].
func (p *Postman) Run(ctx context.Context) {
	ticker := time.NewTicker(mailPoll)
	defer ticker.Stop()
	failing := false
	for {
		_, err := p.Deliver(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			p.Log.ErrorContext(ctx, "the outbox cannot be worked on; trying on", slog.Any("error", err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-p.woken():
		}
	}
}

// Wake makes Run look into the outbox now. It never blocks.
func (p *Postman) Wake() {
	select {
	case p.woken() <- struct{}{}:
	default:
	}
}

func (p *Postman) woken() chan struct{} {
	p.once.Do(func() { p.wake = make(chan struct{}, 1) })
	return p.wake
}

// Deliver makes one pass: it works on all mail that is due and returns how many
// were sent. A mail that could not be sent is due again later and is no error;
// an error means that the store failed, and what was claimed comes up again when
// its lease is over.
func (p *Postman) Deliver(ctx context.Context) (n int, err error) {
	for {
		mails, err := p.Store.DueMail(ctx, p.now(), mailLease, mailBatch)
		if err != nil || len(mails) == 0 {
			return n, err
		}
		sent := make([]bool, len(mails))
		var batch errgroup.Group
		for i, m := range mails {
			batch.Go(func() (err error) {
				sent[i], err = p.deliver(ctx, m)
				return err
			})
		}
		err = batch.Wait()
		for _, ok := range sent {
			if ok {
				n++
			}
		}
		if err != nil {
			return n, err
		}
	}
}

// deliver sends one mail and notes what became of it. Only a note that cannot be
// made is an error.
func (p *Postman) deliver(ctx context.Context, m Mail) (sent bool, err error) {
	// The note is made also when ctx has ended: a mail that was sent as the
	// program was told to stop would go out again.
	noteCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mailLease)
	defer cancel()

	secret, err := p.send(ctx, m)
	if err == nil {
		return true, p.Store.MailDone(noteCtx, m.ID)
	}
	log := p.Log.With(slog.Int64("mail", m.ID), slog.String("kind", string(m.Kind)),
		slog.Int("attempt", m.Attempts), slog.String("error", withoutSecret(err, secret)))
	again := p.now().Add(retryAfter(m.Attempts))
	switch {
	case errors.Is(err, errUnwanted):
		log.InfoContext(ctx, "mail dropped")
	case errors.Is(err, ErrRejected), again.Sub(m.QueuedAt) > maxMailAge(m.Kind):
		log.ErrorContext(ctx, "mail dropped: it could not be sent")
	default:
		log.WarnContext(ctx, "mail not sent; it will be tried again", slog.Time("again", again))
		return false, p.Store.MailRetry(noteCtx, m.ID, again)
	}
	return false, p.Store.MailDone(noteCtx, m.ID)
}

// send makes the message and sends it. The secret in it is returned so that it
// can be kept out of the log.
func (p *Postman) send(ctx context.Context, m Mail) (secret string, err error) {
	switch {
	case p.Mailer == nil:
		return "", unwanted("no mail server is configured")
	case m.To == "":
		return "", unwanted("it has no address")
	case p.now().Sub(m.QueuedAt) > maxMailAge(m.Kind):
		return "", unwanted("it is too old")
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()

	public, err := url.Parse(p.PublicURL)
	if err != nil {
		return "", fmt.Errorf("public URL: %w", err)
	}
	data := letterData{Product: product, Site: public.Host, Name: m.Name}
	var u User
	switch m.Kind {
	case MailReset:
		if u, err = p.owner(ctx, m.To); err != nil {
			return "", err
		}
		// The owner's spelling: one that folds to it may be another's address to
		// the mail server.
		m.To, data.Name = u.Email, u.Username
		ttl := cmp.Or(p.ResetTTL, defaultResetTTL)
		if secret, err = p.issue(ctx, u.ID, m.To, PurposeReset, ttl); err != nil {
			return "", err
		}
		data.Lifetime = inWords(ttl)
		data.Link, err = resetLink(cmp.Or(p.ResetURL, public.JoinPath("reset").String()), secret)
	case MailVerify:
		if u, err = p.registrant(ctx, m); err != nil {
			return "", err
		}
		if secret, err = p.issue(ctx, u.ID, m.To, PurposeVerify, verifyTTL); err != nil {
			return "", err
		}
		data.Lifetime = inWords(verifyTTL)
		data.Link, err = verifyLink(cmp.Or(p.VerifyURL, public.JoinPath("verify").String()), secret)
	}
	if err != nil {
		return secret, err
	}
	msg, err := compose(m.Kind, m.To, data)
	if err != nil {
		return secret, err
	}
	return secret, p.Mailer.Send(ctx, msg)
}

// errUnwanted: a mail that is dropped without an attempt to send it.
var errUnwanted = errors.New("unwanted")

func unwanted(why string) error { return fmt.Errorf("%w: %s", errUnwanted, why) }

// owner is the user who has an address. One who is pending, too: whoever reads the
// mail confirms the address by it, and somebody else may have chosen the password.
func (p *Postman) owner(ctx context.Context, address string) (User, error) {
	u, err := p.Store.ByEmail(ctx, address)
	if errors.Is(err, ErrNotFound) || err == nil && lapsed(u, p.now()) {
		return User{}, unwanted("nobody has the address")
	}
	return u, err
}

// registrant is the user whose address a mail asks to confirm, while it is theirs.
func (p *Postman) registrant(ctx context.Context, m Mail) (User, error) {
	u, err := p.Store.ByID(ctx, m.UserID)
	switch {
	case errors.Is(err, ErrNotFound):
		return User{}, unwanted("the user is gone")
	case err != nil:
		return User{}, err
	case Fold(u.Email) != Fold(m.To):
		return User{}, unwanted("the user has another address now")
	case !u.EmailVerifiedAt.IsZero():
		return User{}, unwanted("the address is verified already")
	}
	return u, nil
}

// issue makes the secret of a mail that is about to be sent and stores its hash.
func (p *Postman) issue(ctx context.Context, userID, to string, purpose Purpose, ttl time.Duration) (secret string, err error) {
	secret = newToken()
	now := p.now()
	err = p.Store.IssueToken(ctx, userID, to, purpose, hashToken(secret), now.Add(ttl), now)
	if errors.Is(err, ErrNotFound) {
		return "", unwanted("the user is gone or has another address now")
	}
	return secret, err
}

// newToken returns a secret to mail: 43 URL-safe characters, 256 random bits.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func resetLink(page, token string) (string, error) {
	link, err := url.Parse(page)
	if err != nil {
		return "", fmt.Errorf("reset URL: %w", err)
	}
	query := link.Query()
	query.Set("resetPasswordToken", token)
	link.RawQuery = query.Encode()
	return link.String(), nil
}

func verifyLink(page, token string) (string, error) {
	link, err := url.Parse(page)
	if err != nil {
		return "", fmt.Errorf("verify URL: %w", err)
	}
	link.Fragment, link.RawFragment = "token="+token, ""
	return link.String(), nil
}

// maxMailAge is how long after its queueing a mail is still worth sending.
func maxMailAge(kind MailKind) time.Duration {
	if kind == MailReset {
		return time.Hour // nobody waits longer; they have asked again
	}
	return 24 * time.Hour
}

// retryAfter doubles from 2 s to 10 min with each attempt.
func retryAfter(attempts int) time.Duration {
	wait := firstRetry
	for ; attempts > 1 && wait < lastRetry; attempts-- {
		wait *= 2
	}
	return min(wait, lastRetry)
}

// withoutSecret is for logs: a mail server may quote the message it refuses.
func withoutSecret(err error, secret string) string {
	if secret == "" {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), secret, "…")
}

func (p *Postman) now() time.Time { return p.Now().UTC().Truncate(time.Microsecond) }
