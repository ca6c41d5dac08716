package mail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Postman delivers what is in the outbox. Each mail is sent at least once, and
// twice only when a replica dies between sending it and noting so; any number of
// replicas may run one.
type Postman struct {
	Outbox Outbox
	Tokens TokenIssuer
	// Mailer sends. nil: no mail is configured, and what was queued is dropped.
	Mailer Mailer
	// Now is the clock that all replicas share.
	Now func() time.Time
	// PublicURL is where people reach this service. Links are made of it and
	// of nothing that a request said.
	PublicURL string
	// ResetURL and VerifyURL are the pages that the links of the two mails lead
	// to; empty means reset and verify under PublicURL. The first takes the token as
	// the query parameter resetPasswordToken, the second as the fragment token=…
	ResetURL, VerifyURL string
	Log                 *slog.Logger
}

const (
	mailPoll = time.Second
	// mailLease outlives the sending of a batch, so that no other replica
	// sends the same mails meanwhile.
	mailLease   = time.Minute
	mailTimeout = 30 * time.Second
	mailBatch   = 8 // sent at the same time

	firstRetry = 2 * time.Second
	lastRetry  = 10 * time.Minute
)

// Run delivers mail until ctx is done: every second.
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
		}
	}
}

// Deliver makes one pass: it works on all mail that is due and returns how many
// were sent. A mail that could not be sent is due again later and is no error;
// an error means that the store failed, and what was claimed comes up again when
// its lease is over.
func (p *Postman) Deliver(ctx context.Context) (n int, err error) {
	for {
		mails, err := p.Outbox.DueMail(ctx, p.now(), mailLease, mailBatch)
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
func (p *Postman) deliver(ctx context.Context, m Envelope) (sent bool, err error) {
	// The note is made also when ctx has ended: a mail that was sent as the
	// program was told to stop would go out again.
	noteCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mailLease)
	defer cancel()

	secret, err := p.send(ctx, m)
	if err == nil {
		return true, p.Outbox.MailDone(noteCtx, m.ID)
	}
	log := p.Log.With(slog.Int64("mail", m.ID), slog.String("kind", string(m.Kind)),
		slog.Int("attempt", m.Attempts), slog.String("error", withoutSecret(err, secret)))
	again := p.now().Add(retryAfter(m.Attempts))
	switch {
	case errors.Is(err, ErrUnwanted):
		log.InfoContext(ctx, "mail dropped")
	case errors.Is(err, ErrRejected), again.Sub(m.QueuedAt) > MaxAge(m.Kind):
		log.ErrorContext(ctx, "mail dropped: it could not be sent")
	default:
		log.WarnContext(ctx, "mail not sent; it will be tried again", slog.Time("again", again))
		return false, p.Outbox.MailRetry(noteCtx, m.ID, again)
	}
	return false, p.Outbox.MailDone(noteCtx, m.ID)
}

// send makes the message and sends it. The secret in it is returned so that it
// can be kept out of the log.
func (p *Postman) send(ctx context.Context, m Envelope) (secret string, err error) {
	switch {
	case p.Mailer == nil:
		return "", unwanted("no mail server is configured")
	case m.To == "":
		return "", unwanted("it has no address")
	case p.now().Sub(m.QueuedAt) > MaxAge(m.Kind):
		return "", unwanted("it is too old")
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()

	public, err := url.Parse(p.PublicURL)
	if err != nil {
		return "", fmt.Errorf("public URL: %w", err)
	}
	data := letterData{Product: product, Site: public.Host, Name: m.Name}
	if m.Kind == KindPasswordReset || m.Kind == KindVerifyEmail {
		token, err := p.Tokens.IssueToken(ctx, m)
		if err != nil {
			return "", err
		}
		secret, m.To, data.Name, data.Lifetime = token.Secret, token.To, token.Name, inWords(token.Lifetime)
		if m.Kind == KindPasswordReset {
			data.Link, err = resetLink(cmp.Or(p.ResetURL, public.JoinPath("reset").String()), secret)
		} else {
			data.Link, err = verifyLink(cmp.Or(p.VerifyURL, public.JoinPath("verify").String()), secret)
		}
		if err != nil {
			return secret, err
		}
	}
	msg, err := compose(m.Kind, m.To, data)
	if err != nil {
		return secret, err
	}
	return secret, p.Mailer.Send(ctx, msg)
}

func unwanted(why string) error { return fmt.Errorf("%w: %s", ErrUnwanted, why) }

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
