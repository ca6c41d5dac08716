package mail

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const testPassword = "p@ss:word/%"

// server is a mail server that stores the messages it receives.
type server struct {
	*smtp.Server
	addr string
	cert *tls.Config
	stop func()

	mu        sync.Mutex
	delivered []delivery
	refuse    *smtp.SMTPError // if not nil, the response to the command refuseAt
	refuseAt  string          // MAIL, RCPT or DATA
}

type delivery struct {
	user string // the user who signed in, or empty
	tls  bool
	from string
	to   []string
	data string
}

// startServer starts a mail server on addr, or on a free loopback port if addr is empty. It offers STARTTLS,
// implicit TLS, or neither.
func startServer(t *testing.T, addr string, starttls, implicit bool) *server {
	t.Helper()
	s := &server{cert: certificate(t)}
	s.Server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &smtpSession{server: s, conn: c}, nil
	}))
	s.AllowInsecureAuth = true
	s.EnableSMTPUTF8 = true
	s.Domain = "mail.test"
	s.ErrorLog = discard{}
	if starttls {
		s.TLSConfig = s.cert
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = listener.Addr().String()
	if implicit {
		listener = tls.NewListener(listener, s.cert)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(listener)
	}()
	s.stop = sync.OnceFunc(func() {
		// Close the listener too, because Close of the server closes it only if Serve has already begun.
		_ = listener.Close()
		_ = s.Close()
		<-done
	})
	t.Cleanup(s.stop)
	return s
}

func (s *server) deliveries() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]delivery{}, s.delivered...)
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

type smtpSession struct {
	server *server
	conn   *smtp.Conn
	delivery
}

func (s *smtpSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *smtpSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != testPassword {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

// refusal returns the error that a test wants for a command.
func (s *server) refusal(command string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil && s.refuseAt == command {
		return s.refuse
	}
	return nil
}

func (s *smtpSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return s.server.refusal("MAIL")
}

func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return s.server.refusal("RCPT")
}

func (s *smtpSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.data = string(data)
	if err := s.server.refusal("DATA"); err != nil {
		return err
	}
	_, s.tls = s.conn.TLSConnectionState()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.delivered = append(s.server.delivered, s.delivery)
	return nil
}

func (s *smtpSession) Reset()        {}
func (s *smtpSession) Logout() error { return nil }

// certificate returns a TLS configuration with a self-signed certificate.
func certificate(t *testing.T) *tls.Config {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		RootCAs:      roots,
		MinVersion:   tls.VersionTLS12,
	}
}

// client returns a mailer that trusts the server's certificate.
func client(t *testing.T, scheme string, s *server, password string) *SMTP {
	t.Helper()
	u := url.URL{Scheme: scheme, Host: s.addr}
	if password != "" {
		u.User = url.UserPassword("sessiond", password)
	}
	c, err := NewSMTP(u.String(), "Sessiond ✉ <noreply@example.com>", false)
	if err != nil {
		t.Fatal(err)
	}
	c.tls.RootCAs = s.cert.RootCAs
	return c
}

var message = Message{
	To:      "alice@example.org",
	Subject: "Choose a new pässword",
	Text:    "Hello älice,\n\nhttps://example.com/reset?resetPasswordToken=abc-_123\n.\nFrom here.\n",
	HTML:    "<p>Hello älice</p>\n",
}

// parts decodes a message like a mail program, and returns its header, text and HTML.
func parts(t *testing.T, data string) (header netmail.Header, text, html string) {
	t.Helper()
	msg, err := netmail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	media, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || media != "multipart/alternative" {
		t.Fatalf("content type %q, %v", media, err)
	}
	var bodies []string
	for reader := multipart.NewReader(msg.Body, params["boundary"]); ; {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if part.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Fatalf("a part is encoded as %q", part.Header.Get("Content-Transfer-Encoding"))
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, part.Header.Get("Content-Type")+"\n"+strings.ReplaceAll(string(body), "\r\n", "\n"))
	}
	if len(bodies) != 2 {
		t.Fatalf("%d parts, want 2", len(bodies))
	}
	text, isText := strings.CutPrefix(bodies[0], "text/plain; charset=UTF-8\n")
	html, isHTML := strings.CutPrefix(bodies[1], "text/html; charset=UTF-8\n")
	if !isText || !isHTML {
		t.Fatalf("parts: %q", bodies)
	}
	return msg.Header, text, html
}

func TestSMTP_SendsWithEachSchemeAndWithOrWithoutPassword(t *testing.T) {
	for _, c := range []struct {
		why, scheme        string
		starttls, implicit bool
		password           string
		wantTLS            bool
	}{
		{"STARTTLS", "smtp", true, false, testPassword, true},
		{"STARTTLS without signing in", "smtp", true, false, "", true},
		{"implicit TLS", "smtps", false, true, testPassword, true},
		{"no encryption on loopback", "smtp+plain", false, false, "", false},
		{"no encryption on loopback, signing in", "smtp+plain", false, false, testPassword, false},
	} {
		t.Run(c.why, func(t *testing.T) {
			s := startServer(t, "", c.starttls, c.implicit)
			mailer := client(t, c.scheme, s, c.password)
			if err := mailer.Check(t.Context()); err != nil {
				t.Errorf("check: %v", err)
			}
			if err := mailer.Send(t.Context(), message); err != nil {
				t.Fatal(err)
			}
			got := s.deliveries()
			if len(got) != 1 {
				t.Fatalf("%d deliveries, want 1", len(got))
			}
			d := got[0]
			if d.tls != c.wantTLS || (d.user == "sessiond") != (c.password != "") || d.from != "noreply@example.com" {
				t.Errorf("delivered as %+v", d)
			}
			if len(d.to) != 1 || d.to[0] != message.To {
				t.Errorf("recipients %q", d.to)
			}
			header, text, html := parts(t, d.data)
			if text != message.Text || html != message.HTML {
				t.Errorf("text %q, HTML %q", text, html)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("Subject"))
			if err != nil || subject != message.Subject {
				t.Errorf("subject %q, %v", subject, err)
			}
			from, err := header.AddressList("From")
			if err != nil || from[0].Name != "Sessiond ✉" || from[0].Address != "noreply@example.com" {
				t.Errorf("from %v, %v", from, err)
			}
			if _, err := header.Date(); err != nil {
				t.Error(err)
			}
			if id := header.Get("Message-Id"); !strings.HasSuffix(id, "@example.com>") {
				t.Errorf("message id %q", id)
			}
			if host, err := os.Hostname(); err == nil && strings.Contains(d.data, host) {
				t.Errorf("the message reveals the name of this machine, %s", host)
			}
			if header.Get("X-Mailer")+header.Get("User-Agent") != "" || header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("header %v", header)
			}
		})
	}
}

func TestSMTP_SendsNothingIfTLSFails_ASVS_V12_3_1_V12_3_2(t *testing.T) {
	for _, c := range []struct {
		why    string
		server *server
		scheme string
		trust  bool
	}{
		{"STARTTLS is not offered", startServer(t, "", false, false), "smtp", true},
		{"STARTTLS with an untrusted certificate", startServer(t, "", true, false), "smtp", false},
		{"TLS with an untrusted certificate", startServer(t, "", false, true), "smtps", false},
		{"TLS to a server without TLS", startServer(t, "", false, false), "smtps", true},
	} {
		mailer := client(t, c.scheme, c.server, testPassword)
		if !c.trust {
			mailer.tls.RootCAs = x509.NewCertPool()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := mailer.Send(ctx, message)
		cancel()
		if err == nil || errors.Is(err, ErrRejected) || strings.Contains(err.Error(), testPassword) {
			t.Errorf("%s: %v", c.why, err)
		}
		if err := mailer.Check(t.Context()); err == nil {
			t.Errorf("%s: Check succeeds", c.why)
		}
		if got := c.server.deliveries(); len(got) != 0 {
			t.Errorf("%s: delivered %v", c.why, got)
		}
	}
}

func TestSMTP_FailedSMTPLoginIsNotReportedAsRejectedRecipient(t *testing.T) {
	s := startServer(t, "", true, false)
	mailer := client(t, "smtp", s, "wrong-secret")
	for _, err := range []error{mailer.Send(t.Context(), message), mailer.Check(t.Context())} {
		if err == nil || errors.Is(err, ErrRejected) || strings.Contains(err.Error(), "wrong-secret") {
			t.Errorf("got %v", err)
		}
	}
}

func TestSMTP_OnlyA5xxResponseRejectsTheMail(t *testing.T) {
	s := startServer(t, "", true, false)
	mailer := client(t, "smtp", s, testPassword)
	for _, c := range []struct {
		refusal  smtp.SMTPError
		rejected bool
	}{
		{smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}, true},
		{smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "looks like spam"}, true},
		{smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "greylisted"}, false},
		{smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "no space left"}, false},
	} {
		for _, command := range []string{"MAIL", "RCPT", "DATA"} {
			s.mu.Lock()
			s.refuse, s.refuseAt = &c.refusal, command
			s.mu.Unlock()
			err := mailer.Send(t.Context(), message)
			if err == nil || errors.Is(err, ErrRejected) != c.rejected {
				t.Errorf("%d at %s: %v", c.refusal.Code, command, err)
			}
		}
	}
}

// The log has these errors, and must not have email addresses.
func TestSMTP_ErrorsDoNotNameTheRecipient(t *testing.T) {
	s := startServer(t, "", true, false)
	mailer := client(t, "smtp", s, testPassword)
	for _, command := range []string{"MAIL", "RCPT", "DATA"} {
		s.mu.Lock()
		s.refuse = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "<" + strings.ToUpper(message.To) + ">: no such mailbox"}
		s.refuseAt = command
		s.mu.Unlock()
		err := mailer.Send(t.Context(), message)
		if err == nil || strings.Contains(strings.ToLower(err.Error()), message.To) || !strings.Contains(err.Error(), "code 550 5.1.1") {
			t.Errorf("at %s: got %v, want the code without the recipient", command, err)
		}
	}
}

func TestSMTP_RefusesHeaderInjection_ASVS_V1_3_11(t *testing.T) {
	s := startServer(t, "", false, false)
	mailer := client(t, "smtp+plain", s, "")
	for _, m := range []Message{
		{To: "a@example.org\r\nBcc: b@example.org", Subject: "x"},
		{To: "a@example.org\nBcc: b@example.org", Subject: "x"},
		{To: "a@example.org, b@example.org", Subject: "x"},
		{To: "A <a@example.org>", Subject: "x"},
		{To: "a@example.org> SIZE=1\r\nRCPT TO:<b@example.org", Subject: "x"},
		{To: "", Subject: "x"},
		{To: "a@example.org", Subject: "x\r\nBcc: b@example.org"},
		{To: "a@example.org", Subject: "x\nBcc: b@example.org"},
		{To: "a@example.org", Subject: "x\r\n\r\nbody"},
	} {
		if err := mailer.Send(t.Context(), m); err == nil {
			t.Errorf("sent: %+v", m)
		}
	}
	if got := s.deliveries(); len(got) != 0 {
		t.Errorf("delivered %v", got)
	}
	// In the body of a mail, SMTP commands and header lines are sent as text.
	m := message
	m.Text = "one\r\n.\r\nMAIL FROM:<x@example.org>\r\n\r\nBcc: b@example.org\r\n"
	if err := mailer.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	d := s.deliveries()
	if len(d) != 1 || len(d[0].to) != 1 {
		t.Fatalf("delivered %v", d)
	}
	if _, text, _ := parts(t, d[0].data); text != strings.ReplaceAll(m.Text, "\r\n", "\n") {
		t.Errorf("text %q", text)
	}
}

func TestSMTP_SendsToNonASCIIAddresses(t *testing.T) {
	s := startServer(t, "", false, false)
	m := message
	m.To = "jörg@exämple.org"
	if err := client(t, "smtp+plain", s, "").Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if d := s.deliveries(); len(d) != 1 || d[0].to[0] != "jörg@xn--exmple-cua.org" {
		t.Errorf("delivered %v", d)
	}
}

// Few mail servers take a domain that is not ASCII.
func TestSMTP_SendsToDomainInASCII(t *testing.T) {
	s := startServer(t, "", false, false)
	for address, want := range map[string]string{
		"info@bücher.example": "info@xn--bcher-kva.example", "a@Straße.example": "a@xn--strae-oqa.example", "a@EXAMPLE.org": "a@example.org",
	} {
		m := message
		m.To = address
		if err := client(t, "smtp+plain", s, "").Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if d := s.deliveries(); d[len(d)-1].to[0] != want || strings.Contains(d[len(d)-1].data, "SMTPUTF8") {
			t.Errorf("%s: delivered to %v, want %s", address, d[len(d)-1].to, want)
		}
	}
}

// script returns a mailer whose server accepts one connection and calls play with the connection.
func script(t *testing.T, play func(net.Conn)) *SMTP {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		play(conn)
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	mailer, err := NewSMTP("smtp+plain://"+listener.Addr().String(), "noreply@example.com", false)
	if err != nil {
		t.Fatal(err)
	}
	return mailer
}

// The server has accepted the message. If Send returned an error, the message would be sent twice.
func TestSMTP_SendSucceedsIfTheServerVanishesAfterAccepting(t *testing.T) {
	mailer := script(t, func(conn net.Conn) {
		lines := bufio.NewScanner(conn)
		say := func(s string) { _, _ = io.WriteString(conn, s+"\r\n") }
		say("220 hello")
		for lines.Scan() {
			switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
			case "DATA":
				say("354 go on")
				for lines.Scan() && lines.Text() != "." {
				}
				say("250 taken")
				return
			default:
				say("250 fine")
			}
		}
	})
	if err := mailer.Send(t.Context(), message); err != nil {
		t.Error(err)
	}
}

func TestSMTP_ClosesConnectionToSilentServerWhenTheContextEnds(t *testing.T) {
	for _, c := range []struct{ why, says string }{
		{"no greeting", ""},
		{"only a greeting", "220 hello\r\n"},
	} {
		hungUp := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		mailer := script(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, c.says)
			if c.says != "" {
				_, _ = conn.Read(make([]byte, 1024)) // read the client's EHLO
			}
			cancel()
			_, _ = io.Copy(io.Discard, conn) // read until the client closes the connection
			close(hungUp)
		})
		begin := time.Now()
		if err := mailer.Send(ctx, message); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", c.why, err)
		}
		if took := time.Since(begin); took > timeout/2 {
			t.Errorf("%s: took %v", c.why, took)
		}
		await(t, hungUp)
	}
}

// go-mail itself leaves the connection open if the server refuses EHLO.
func TestSMTP_ClosesConnectionIfTheServerRefusesEHLO(t *testing.T) {
	hungUp := make(chan struct{})
	mailer := script(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "220 hello\r\n")
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = io.WriteString(conn, "502 no\r\n")
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = io.WriteString(conn, "502 no\r\n")
		_, _ = io.Copy(io.Discard, conn)
		close(hungUp)
	})
	if err := mailer.Send(t.Context(), message); err == nil {
		t.Error("sent a message to a server that refuses EHLO")
	}
	await(t, hungUp)
}

func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("the connection is still open")
	}
}

func TestNewSMTP_AcceptsOnlyValidURLs(t *testing.T) {
	for _, c := range []struct {
		why, url string
		anywhere bool
		want     string // host:port; empty if NewSMTP must refuse the URL
	}{
		{"default port", "smtp://mail.example.com", false, "mail.example.com:587"},
		{"default port of TLS", "smtps://mail.example.com/", false, "mail.example.com:465"},
		{"default port of plain", "smtp+plain://mailpit", false, "mailpit:25"},
		{"another port", "smtp://u:p@mail.example.com:2525", false, "mail.example.com:2525"},
		{"IPv6", "smtp+plain://[::1]:1025", false, "[::1]:1025"},
		{"private", "smtp+plain://10.1.2.3", false, "10.1.2.3:25"},
		{"public", "smtp+plain://192.0.2.1", false, ""},
		{"public, as an IPv4-mapped IPv6 address", "smtp+plain://[::ffff:192.0.2.1]", false, ""},
		{"public, allowed", "smtp+plain://192.0.2.1", true, "192.0.2.1:25"},
		{"public, encrypted", "smtp://192.0.2.1", false, "192.0.2.1:587"},
		{"no scheme", "mail.example.com:587", false, ""},
		{"another scheme", "http://mail.example.com", false, ""},
		{"no host", "smtp://", false, ""},
		{"no host but a port", "smtp://:587", false, ""},
		{"a user without a password", "smtp://u@mail.example.com", false, ""},
		{"a password without a user", "smtp://:s3cret@mail.example.com", false, ""},
		{"bad port", "smtp://u:s3cret@mail.example.com:0", false, ""},
		{"port out of range", "smtp://u:s3cret@mail.example.com:65536", false, ""},
		{"port is a word", "smtp://u:s3cret@mail.example.com:smtp", false, ""},
		{"path", "smtp://u:s3cret@mail.example.com/x", false, ""},
		{"query", "smtp://u:s3cret@mail.example.com?tls=off", false, ""},
		{"a fragment, from a password with #", "smtp://u:s3cret#@mail.example.com", false, ""},
		{"a password with %", "smtp://u:s3cret%@mail.example.com", false, ""},
		{"empty", "", false, ""},
	} {
		s, err := NewSMTP(c.url, "noreply@example.com", c.anywhere)
		switch {
		case err != nil && c.want != "":
			t.Errorf("%s: %v", c.why, err)
		case err == nil && s.address() != c.want:
			t.Errorf("%s: address %s, want %q", c.why, s.address(), c.want)
		case err != nil && strings.Contains(err.Error(), "s3cret"):
			t.Errorf("%s: the error quotes the password: %v", c.why, err)
		}
	}
	for _, from := range []string{"", "noreply", "a@b.example, c@d.example", "a@b.example\r\nBcc: c@d.example", "X\r\nBcc: c@d.example <a@b.example>"} {
		if _, err := NewSMTP("smtp://mail.example.com", from, false); err == nil {
			t.Errorf("accepts the sender %q", from)
		}
	}
}

// connTo is a connection whose remote address is peer.
type connTo struct {
	net.Conn
	peer net.Addr
}

func (c connTo) RemoteAddr() net.Addr { return c.peer }

func TestSMTP_RefusesPlaintextToHostNameWithPublicAddress(t *testing.T) {
	for _, c := range []struct {
		peer     string
		anywhere bool
		want     bool
	}{
		{"127.0.0.1:25", false, true},
		{"192.168.7.7:25", false, true},
		{"[fd00::7]:25", false, true},
		{"192.0.2.1:25", false, false},
		{"[2001:db8::1]:25", false, false},
		{"192.0.2.1:25", true, true},
	} {
		s, err := NewSMTP("smtp+plain://mail.example.com", "noreply@example.com", c.anywhere)
		if err != nil {
			t.Fatal(err)
		}
		conn := connTo{peer: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.peer))}
		if _, err := s.secure(t.Context(), conn); (err == nil) != c.want {
			t.Errorf("%s, anywhere %v: %v", c.peer, c.anywhere, err)
		}
	}
}
