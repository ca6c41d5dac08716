package mail

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// memoryOutbox is an Outbox with one envelope, and the Clerk of the envelope.
type memoryOutbox struct {
	envelope Envelope
	due      time.Time
	done     bool
	issued   []string
}

func (o *memoryOutbox) DueMail(_ context.Context, now time.Time, lease time.Duration, _ int) ([]Envelope, error) {
	if o.done || o.due.After(now) {
		return nil, nil
	}
	o.due = now.Add(lease)
	o.envelope.Attempts++
	return []Envelope{o.envelope}, nil
}

func (o *memoryOutbox) MailDone(context.Context, int64) error {
	o.done = true
	return nil
}

func (o *memoryOutbox) MailRetry(_ context.Context, _ int64, at time.Time) error {
	o.due = at
	return nil
}

func (o *memoryOutbox) Prepare(_ context.Context, e Envelope) (Prepared, error) {
	secret := strings.Repeat(string(rune('a'+len(o.issued))), 43)
	o.issued = append(o.issued, secret)
	return Prepared{Secret: secret, Lifetime: time.Minute, To: e.To}, nil
}

func TestPostman_SendsMailOnceAfterMailServerOutage(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	outbox := &memoryOutbox{envelope: Envelope{Kind: KindPasswordReset, To: "alice@example.org", QueuedAt: now}, due: now}
	server := startServer(t, "", true, false)
	postman := &Postman{
		Outbox: outbox, Clerk: outbox, Mailer: client(t, "smtp", server, testPassword),
		Now:       func() time.Time { return now },
		PublicURL: "https://auth.example.com", Log: slog.New(slog.DiscardHandler),
	}
	deliver := func(want int) {
		t.Helper()
		if n, err := postman.Deliver(t.Context()); n != want || err != nil {
			t.Fatalf("sent %d, %v, want %d", n, err, want)
		}
		now = now.Add(time.Minute)
	}
	server.stop()
	deliver(0)
	deliver(0)

	back := startServer(t, server.addr, true, false)
	postman.Mailer.(*SMTP).tls.RootCAs = back.cert.RootCAs
	deliver(1)
	deliver(0)
	got := back.deliveries()
	if len(got) != 1 || len(got[0].to) != 1 || got[0].to[0] != "alice@example.org" || !got[0].tls {
		t.Fatalf("delivered %+v", got)
	}
	_, text, html := parts(t, got[0].data)
	link := "https://auth.example.com/reset?resetPasswordToken=" + outbox.issued[len(outbox.issued)-1]
	if len(outbox.issued) != 3 || !strings.Contains(text, link) || !strings.Contains(html, link) {
		t.Fatalf("want the link with the last of %q\ntext %s\nHTML %s", outbox.issued, text, html)
	}
}
