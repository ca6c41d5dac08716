package mail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Mailer hands messages to a mail server. It is safe for concurrent use.
type Mailer interface {
	// Send returns nil after the mail server has accepted the message. It returns [ErrRejected] if the
	// server will never accept the message. After any other error, the Postman tries to send the mail
	// again later.
	Send(ctx context.Context, m Message) error
}

// ErrRejected means that the mail server refuses this mail permanently.
var ErrRejected = errors.New("mail rejected")

// Postman delivers the mail in the outbox. It sends each mail at least once, and twice only if a replica
// dies after it sent the mail and before it recorded that. Each replica may run a Postman.
type Postman struct {
	Outbox Outbox
	Clerk  Clerk
	// Mailer sends the mail. If Mailer is nil, no mail server is configured and all mail is dropped.
	Mailer Mailer
	// Now is the clock that all replicas share.
	Now func() time.Time
	// PublicURL is the URL of this server for browsers. Links start with it. A link must never use the
	// host name of a request, because an attacker can choose that name.
	PublicURL string
	// ResetURL and VerifyURL are the pages that the links in mails lead to. If empty, they are the
	// pages reset and verify under PublicURL. A link adds the token to ResetURL as the query parameter
	// resetPasswordToken, and to VerifyURL as the fragment token=….
	ResetURL, VerifyURL string
	Log                 *slog.Logger
	// Span, if not nil, starts the span of an attempt to send a mail. Its name contains the [Kind]. The
	// function that Span returns ends the span.
	Span func(ctx context.Context, name string) (context.Context, func(error))

	// Observer, if set, is called with the outcome of each attempt to send a mail, one of Outcomes. It
	// must not block.
	Observer func(outcome string)
}

const (
	outcomeSent      = "sent"
	outcomePostponed = "postponed" // it is tried again later
	outcomeUnwanted  = "unwanted"  // it was not sent, for example because of a rate limit
	outcomeFailed    = "failed"    // it was given up
)

// Outcomes are the outcomes of an attempt to send a mail.
var Outcomes = []string{outcomeSent, outcomePostponed, outcomeUnwanted, outcomeFailed}

func (p *Postman) observe(outcome string) {
	if p.Observer != nil {
		p.Observer(outcome)
	}
}

const (
	pollInterval = time.Second
	// claimLease is how long other replicas leave claimed mails alone. It is longer than sending a batch takes.
	claimLease  = time.Minute
	sendTimeout = 30 * time.Second
	batchSize   = 8 // mails that are sent concurrently

	firstRetry = 2 * time.Second
	lastRetry  = 10 * time.Minute
)

// Run delivers mail every second until ctx is done.
func (p *Postman) Run(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	failing := false
	for {
		_, err := p.Deliver(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			p.Log.ErrorContext(ctx, "the outbox does not answer; no mail is sent until it does", slog.Any("error", err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Deliver sends all mail that is due and returns how many mails it sent. If a mail cannot be sent, Deliver
// returns no error and the mail becomes due again later. An error means that the outbox failed. Mails
// that this replica claimed then become due again when claimLease ends.
func (p *Postman) Deliver(ctx context.Context) (n int, err error) {
	for {
		mails, err := p.Outbox.DueMail(ctx, p.now(), claimLease, batchSize)
		if err != nil || len(mails) == 0 {
			return n, err
		}
		var sent atomic.Int64
		var batch errgroup.Group
		for _, e := range mails {
			batch.Go(func() error {
				ok, err := p.deliver(ctx, e)
				if ok {
					sent.Add(1)
				}
				return err
			})
		}
		err = batch.Wait()
		if n += int(sent.Load()); err != nil {
			return n, err
		}
	}
}

// deliver sends one mail and records the outcome in the outbox. It returns only errors of the outbox.
func (p *Postman) deliver(ctx context.Context, e Envelope) (sent bool, err error) {
	// Record the outcome even if ctx ends. Otherwise a mail that was sent during shutdown would be sent
	// again.
	recordCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimLease)
	defer cancel()

	secrets := []string{e.To}
	sending, endSpan := ctx, func(error) {}
	if p.Span != nil {
		sending, endSpan = p.Span(ctx, "mail.send "+string(e.Kind))
	}
	err = p.send(sending, e, func(text string) { secrets = append(secrets, text) })
	endSpan(err)
	if err == nil {
		p.observe(outcomeSent)
		return true, p.Outbox.MailDone(recordCtx, e.ID)
	}
	log := p.Log.With(slog.Int64("mail", e.ID), slog.String("kind", string(e.Kind)),
		slog.Int("attempt", e.Attempts), slog.String("error", without(secrets, err)))
	again := p.now().Add(retryDelay(e.Attempts))
	switch {
	case errors.Is(err, ErrUnwanted):
		p.observe(outcomeUnwanted)
		log.InfoContext(ctx, "mail dropped")
	case errors.Is(err, ErrRejected), again.Sub(e.QueuedAt) > MaxAge(e.Kind):
		p.observe(outcomeFailed)
		log.ErrorContext(ctx, "mail dropped: it could not be sent")
	default:
		p.observe(outcomePostponed)
		log.WarnContext(ctx, "mail not sent; sending will be tried again later", slog.Time("again", again))
		return false, p.Outbox.MailRetry(recordCtx, e.ID, again)
	}
	return false, p.Outbox.MailDone(recordCtx, e.ID)
}

// send writes and sends a mail. It passes the texts that must not be logged to the function hide: the token
// in the mail's link, and the recipient as the user spells it.
func (p *Postman) send(ctx context.Context, e Envelope, hide func(string)) error {
	switch {
	case p.Mailer == nil:
		return fmt.Errorf("%w: no mail server is configured", ErrUnwanted)
	case e.To == "":
		return fmt.Errorf("%w: the mail has no recipient", ErrUnwanted)
	case p.now().Sub(e.QueuedAt) > MaxAge(e.Kind):
		return fmt.Errorf("%w: the mail is older than %v", ErrUnwanted, MaxAge(e.Kind))
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()

	public, err := url.Parse(p.PublicURL)
	if err != nil {
		return fmt.Errorf("public URL: %w", err)
	}
	prepared, err := p.Clerk.Prepare(ctx, e)
	if err != nil {
		return err
	}
	hide(prepared.Secret)
	hide(prepared.To)
	data := letterData{Product: product, Site: public.Host}
	if prepared.Secret != "" {
		data.Lifetime = inWords(prepared.Lifetime)
		page := cmp.Or(p.ResetURL, public.JoinPath("reset").String())
		switch e.Kind {
		case KindConfirmEmail:
			page = cmp.Or(p.VerifyURL, public.JoinPath("verify").String())
		case KindEmailChange:
			page = public.JoinPath("v1/email-changes/undo").String()
		}
		if data.Link, err = tokenLink(e.Kind, page, prepared.Secret); err != nil {
			return err
		}
	}
	msg, err := compose(e.Kind, prepared.To, data)
	if err != nil {
		return err
	}
	return p.Mailer.Send(ctx, msg)
}

// retryDelay returns how long to wait before the next attempt. The wait doubles from 2 s up to 10 min.
func retryDelay(attempts int) time.Duration {
	delay := firstRetry
	for ; attempts > 1 && delay < lastRetry; attempts-- {
		delay *= 2
	}
	return min(delay, lastRetry)
}

// without removes texts from the text of an error, in any case, because a mail server may quote the refused
// mail or its recipient.
func without(secrets []string, err error) string {
	text := err.Error()
	for _, secret := range secrets {
		if secret != "" {
			text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(secret)).ReplaceAllLiteralString(text, "…")
		}
	}
	return text
}

func (p *Postman) now() time.Time { return p.Now().UTC().Truncate(time.Microsecond) }
