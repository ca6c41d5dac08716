package mail

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"net/url"
	"strings"
	"text/template"
	"time"
)

// Message is a mail that is ready to be sent. It has the same content as text and as HTML.
type Message struct {
	To      string `json:"to"` // one email address, without a name
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html"`
}

// product is the name of this server in mails.
const product = "sessiond"

//go:embed templates
var templateFiles embed.FS

// letters holds the templates of every kind of mail.
var letters = map[Kind]letter{
	KindPasswordReset:   parseLetter(KindPasswordReset),
	KindConfirmEmail:    parseLetter(KindConfirmEmail),
	KindInvitation:      parseLetter(KindInvitation),
	KindAddressTaken:    parseLetter(KindAddressTaken),
	KindPasswordChanged: parseLetter(KindPasswordChanged),
	KindEmailChange:     parseLetter(KindEmailChange),
	KindAccountDeleted:  parseLetter(KindAccountDeleted),
	KindTokenTheft:      parseLetter(KindTokenTheft),
}

type letter struct {
	text *template.Template // includes the template "subject" for the subject line
	html *htmltemplate.Template
}

// letterData holds the values that the templates insert. None of them is a text that a user chose.
// Otherwise a stranger could send mails with a username such as "Win at evil.example" in our name.
type letterData struct {
	Product  string
	Site     string // host name of the server's public URL
	Link     string // empty in mails without a link
	Lifetime string // how long the link works, such as "10 minutes"
}

func parseLetter(kind Kind) letter {
	file := "templates/" + string(kind)
	return letter{
		text: template.Must(template.ParseFS(templateFiles, file+".txt")),
		html: htmltemplate.Must(htmltemplate.ParseFS(templateFiles, "templates/layout.html", file+".html")),
	}
}

// compose writes a mail of the given kind.
func compose(kind Kind, to string, data letterData) (Message, error) {
	l, ok := letters[kind]
	if !ok {
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

// tokenLink returns the URL of a page with the token added: as a query parameter for a password reset
// or an invitation, and otherwise as the fragment, which browsers do not send.
func tokenLink(kind Kind, page, token string) (string, error) {
	link, err := url.Parse(page)
	if err != nil {
		return "", fmt.Errorf("link in mail of kind %q: %w", kind, err)
	}
	if kind != KindPasswordReset && kind != KindInvitation {
		link.Fragment, link.RawFragment = "token="+token, ""
		return link.String(), nil
	}
	query := link.Query()
	query.Set("resetPasswordToken", token)
	link.RawQuery = query.Encode()
	return link.String(), nil
}

// inWords returns a duration as people write it, such as "10 minutes" or "24 hours".
func inWords(d time.Duration) string {
	switch d = (d + time.Second - 1).Truncate(time.Second); { // a part of a second may have passed since the queue
	case d < time.Minute:
		return plural(int(d/time.Second), "second")
	case d < 2*time.Hour:
		return plural(int((d+30*time.Second)/time.Minute), "minute")
	default:
		return plural(int((d+30*time.Minute)/time.Hour), "hour")
	}
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
