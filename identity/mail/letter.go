package mail

import (
	"context"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"strings"
	"text/template"
	"time"
)

// Message is one mail, ready to be sent, in two forms of the same content.
type Message struct {
	To      string // one bare address
	Subject string
	Text    string
	HTML    string
}

// Mailer hands messages to a mail server. A nil error means that the server
// has taken the message. [ErrRejected] means that it never will; after any other
// error the same mail is tried again later, so Send returns none once the
// message was taken. Safe for concurrent use.
type Mailer interface {
	Send(ctx context.Context, m Message) error
}

// ErrRejected: the mail server refuses this address for good.
var ErrRejected = errors.New("address rejected")

// product is how mails call this service.
const product = "sessiond"

//go:embed templates
var templateFiles embed.FS

// letters are the templates of all mails; a mail of another kind cannot be sent.
var letters = map[Kind]letter{
	KindPasswordReset:   parseLetter(KindPasswordReset),
	KindVerifyEmail:     parseLetter(KindVerifyEmail),
	KindAddressTaken:    parseLetter(KindAddressTaken),
	KindPasswordChanged: parseLetter(KindPasswordChanged),
	KindEmailChanged:    parseLetter(KindEmailChanged),
	KindAccountDeleted:  parseLetter(KindAccountDeleted),
	KindTokenTheft:      parseLetter(KindTokenTheft),
}

type letter struct {
	text *template.Template // and, as "subject", the subject
	html *htmltemplate.Template
}

// letterData is what a template may name.
type letterData struct {
	Product  string
	Site     string // host of the public URL
	Name     string // the account's username
	Link     string // only in mails that carry one
	Lifetime string // of the link, in words
}

func parseLetter(kind Kind) letter {
	file := "templates/" + string(kind)
	return letter{
		text: template.Must(template.ParseFS(templateFiles, file+".txt")),
		html: htmltemplate.Must(htmltemplate.ParseFS(templateFiles, "templates/layout.html", file+".html")),
	}
}

// compose fills the templates of a kind. Its errors are faults of the templates.
func compose(kind Kind, to string, data letterData) (Message, error) {
	l, known := letters[kind]
	if !known {
		return Message{}, fmt.Errorf("compose mail: no template for kind %q", kind)
	}
	var subject, text, html strings.Builder
	err := errors.Join(
		l.text.ExecuteTemplate(&subject, "subject", data),
		l.text.Execute(&text, data),
		l.html.ExecuteTemplate(&html, "layout", data))
	if err != nil {
		return Message{}, fmt.Errorf("compose mail of kind %q: %w", kind, err)
	}
	return Message{To: to, Subject: subject.String(), Text: text.String(), HTML: html.String()}, nil
}

// inWords writes a lifetime for people: "10 minutes", "24 hours".
func inWords(d time.Duration) string {
	switch {
	case d < time.Minute:
		return plural(int(d/time.Second), "second")
	case d < 2*time.Hour:
		return plural(int(d/time.Minute), "minute")
	default:
		return plural(int(d/time.Hour), "hour")
	}
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
