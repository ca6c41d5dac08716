package httpsuite

import (
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// keptMail is a mail that the service sent.
type keptMail struct {
	To, Subject, Text string
}

// awaitMail waits for a mail to an address that contains a word in its subject or text.
func (s *service) awaitMail(t testing.TB, to, word string) (found keptMail) {
	t.Helper()
	await(t, "a mail to "+to+" that contains "+word, func() bool {
		for _, m := range s.mails() {
			if m.To == to && strings.Contains(m.Subject+m.Text, word) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

var (
	resetLink  = regexp.MustCompile(`resetPasswordToken=([A-Za-z0-9_-]+)`)
	verifyLink = regexp.MustCompile(`#token=([A-Za-z0-9_-]+)`)
)

// resetToken requests a password reset and returns the token in the mail.
func (s *service) resetToken(t testing.TB, p person) (token string) {
	t.Helper()
	tokens := func() (all []string) {
		for _, m := range s.mails() {
			if found := resetLink.FindStringSubmatch(m.Text); m.To == p.email && found != nil {
				all = append(all, found[1])
			}
		}
		return all
	}
	before := tokens()
	s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": p.email})).want(t, 200)
	await(t, "a reset mail to "+p.email, func() bool {
		for _, token = range tokens() {
			if !slices.Contains(before, token) {
				return true
			}
		}
		return false
	})
	return token
}

// smtpServer is a mail server that keeps the mails it receives, newest first.
type smtpServer struct {
	addr string
	mu   sync.Mutex
	kept []keptMail
}

func startSMTP(t *testing.T) *smtpServer {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{addr: l.Addr().String()}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &smtpSession{server: s}, nil }))
	server.Domain = "localhost"
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		_ = l.Close() // if Serve has not registered it yet
		<-done
	})
	return s
}

func (s *smtpServer) received() []keptMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]keptMail(nil), s.kept...)
}

type smtpSession struct {
	server *smtpServer
	to     []string
}

func (s *smtpSession) Reset() { s.to = nil }

func (s *smtpSession) Logout() error { return nil }

func (s *smtpSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = append(s.to, to); return nil }

func (s *smtpSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	text := decodeQuotedPrintable(raw)
	m := keptMail{To: strings.Join(s.to, ","), Text: text}
	for line := range strings.Lines(text) {
		if subject, ok := strings.CutPrefix(line, "Subject: "); ok {
			m.Subject = strings.TrimSpace(subject)
		}
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.kept = append([]keptMail{m}, s.server.kept...)
	return nil
}

// decodeQuotedPrintable joins soft line breaks and decodes the characters that links contain.
func decodeQuotedPrintable(raw []byte) string {
	text := strings.ReplaceAll(string(raw), "=\r\n", "")
	return strings.NewReplacer("=3D", "=", "=3d", "=").Replace(text)
}
