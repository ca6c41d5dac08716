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

// keptMail is a mail that the service sent to the mail server of a test.
type keptMail struct {
	To, Subject, Text string
}

// awaitMail waits until the service has sent a mail to this address with this word in its subject
// or text. It returns the mail.
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
	verifyLink = regexp.MustCompile(`/verify#token=([A-Za-z0-9_-]+)`)
	undoLink   = regexp.MustCompile(`/v1/email-changes/undo#token=([A-Za-z0-9_-]+)`)
)

// resetToken requests a password reset for the user, waits for the mail and returns its reset
// token.
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

// smtpServer is a mail server that keeps all mails that it receives, the newest first.
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
		_ = l.Close() // server.Close does not close a listener that Serve has not registered yet
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

// decodeQuotedPrintable undoes the quoted-printable encoding of a mail, as far as links need it: it
// joins wrapped lines and decodes equals signs.
func decodeQuotedPrintable(raw []byte) string {
	text := strings.ReplaceAll(string(raw), "=\r\n", "")
	return strings.NewReplacer("=3D", "=", "=3d", "=").Replace(text)
}
