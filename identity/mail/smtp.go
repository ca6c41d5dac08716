package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// timeout bounds the dial and each exchange with the server. The caller's context bounds the whole call.
const timeout = 15 * time.Second

// SMTP is a [Mailer] that sends each message over a connection of its own. It is safe for concurrent use.
type SMTP struct {
	host       string
	port       int
	scheme     string // smtp, smtps or smtp+plain
	user, pass string
	from       *netmail.Address
	tls        *tls.Config
	anywhere   bool // unencrypted connections to public addresses are allowed too
}

var _ Mailer = (*SMTP)(nil)

const (
	startTLS    = "smtp" // no password or mail is sent before STARTTLS succeeds
	implicitTLS = "smtps"
	plainText   = "smtp+plain"
)

var defaultPorts = map[string]int{startTLS: 587, implicitTLS: 465, plainText: 25}

// NewSMTP returns a mailer for the mail server at a URL of one of these forms:
//
//	smtp://user:password@host:587        STARTTLS, which the server must offer
//	smtps://user:password@host:465       TLS from the first byte
//	smtp+plain://user:password@host:25   not encrypted
//
// The user and password may be left out, and so may the port, whose defaults are above. Unless
// allowPlaintext is set, smtp+plain may connect only to loopback and private IP addresses. from is the
// sender, such as "a@b" or "Name <a@b>". Errors never quote the URL, which may hold a password.
func NewSMTP(smtpURL, from string, allowPlaintext bool) (*SMTP, error) {
	u, err := url.Parse(smtpURL)
	if err != nil || u.Opaque != "" {
		return nil, errors.New("want a URL such as smtp://host:587") // do not wrap err, because it would quote the password
	}
	s := &SMTP{scheme: u.Scheme, port: defaultPorts[u.Scheme], host: u.Hostname(), user: u.User.Username(), anywhere: allowPlaintext}
	s.pass, _ = u.User.Password()
	if s.port == 0 {
		return nil, errors.New("want a URL with the scheme smtp, smtps or smtp+plain")
	}
	if port := u.Port(); port != "" {
		if s.port, err = strconv.Atoi(port); err != nil || s.port < 1 || s.port > 65535 {
			return nil, errors.New("want a port from 1 to 65535")
		}
	}
	switch ip, err := netip.ParseAddr(s.host); {
	case s.host == "":
		return nil, errors.New("want a URL with a host")
	case (s.user == "") != (s.pass == ""):
		return nil, errors.New("want both a user and a password in the URL, or neither")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("want a URL with nothing after the host and port")
	case err == nil && !s.mayReach(ip):
		return nil, errPlaintext
	}
	if s.from, err = netmail.ParseAddress(from); err != nil || control(from) {
		return nil, errors.New("sender: want an email address, such as a@b or Name <a@b>")
	}
	s.tls = &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}
	return s, nil
}

var errPlaintext = errors.New("smtp+plain is not encrypted: want a server with a loopback or private address")

// mayReach reports whether the mailer may connect to a server at an IP address.
func (s *SMTP) mayReach(ip netip.Addr) bool {
	ip = ip.Unmap()
	return s.scheme != plainText || s.anywhere || ip.IsLoopback() || ip.IsPrivate()
}

// Send implements [Mailer]. It returns [ErrRejected] if the server refuses the sender, the recipient or the
// text with a 5xx code. Its errors do not repeat what the server said about the message, because that often
// names the recipient.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg, err := s.compose(m)
	if err != nil {
		return err
	}
	err = s.connect(ctx, func(c *gomail.Client) error {
		server, err := c.DialToSMTPClientWithContext(ctx)
		if err != nil {
			return err
		}
		if err := c.SendWithSMTPClient(server, msg); err != nil {
			return err
		}
		// Ignore a failure to close the connection, because the server has accepted the message.
		_ = c.CloseWithSMTPClient(server)
		return nil
	})
	if err == nil {
		return nil
	}
	var refused *gomail.SendError
	if errors.As(err, &refused) {
		final := refused.ErrorCode() >= 500 && ofMessage(refused.Reason)
		err = fmt.Errorf("%v: the connection failed", refused.Reason)
		if refused.ErrorCode() > 0 {
			err = errors.New(strings.TrimSpace(fmt.Sprintf("%v: code %d %s", refused.Reason, refused.ErrorCode(), refused.EnhancedStatusCode())))
		}
		if final {
			err = fmt.Errorf("%w: %w", ErrRejected, err)
		}
	}
	return fmt.Errorf("send mail through server %s: %w", s.address(), err)
}

// ofMessage reports whether the server gave its answer to a command that is about the message, and not
// to one that signs in.
func ofMessage(reason gomail.SendErrReason) bool {
	switch reason {
	case gomail.ErrSMTPMailFrom, gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
		return true
	default:
		return false
	}
}

// Check connects to the server and signs in like Send, but sends no mail.
func (s *SMTP) Check(ctx context.Context) error {
	err := s.connect(ctx, func(c *gomail.Client) error {
		server, err := c.DialToSMTPClientWithContext(ctx)
		if err != nil {
			return err
		}
		return c.CloseWithSMTPClient(server)
	})
	if err != nil {
		return fmt.Errorf("check mail server %s: %w", s.address(), err)
	}
	return nil
}

// compose returns the message with its text and its HTML. go-mail encodes header values. compose refuses
// control characters in them, because they can only be an attempt to add another header.
func (s *SMTP) compose(m Message) (*gomail.Msg, error) {
	to, err := netmail.ParseAddress(m.To)
	if err != nil || to.Address != m.To || control(m.To) {
		return nil, fmt.Errorf("compose mail: %w: want one email address without a name", ErrRejected)
	}
	if control(m.Subject) {
		return nil, errors.New("compose mail: control character in the subject")
	}
	to.Address = asciiDomain(to.Address)
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.SetAddrHeaderFromMailAddress(gomail.HeaderFrom, s.from)
	msg.SetAddrHeaderFromMailAddress(gomail.HeaderTo, to)
	msg.Subject(m.Subject)
	msg.SetDate()
	// The message id that go-mail makes would reveal the name of this machine.
	msg.SetMessageIDWithValue(rand.Text() + "@" + s.from.Address[strings.LastIndexByte(s.from.Address, '@')+1:])
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office replies
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	return msg, nil
}

// asciiDomain returns an address with its domain in ASCII (RFC 5891), because few mail servers take another.
func asciiDomain(address string) string {
	at := strings.LastIndexByte(address, '@') + 1
	domain, err := idna.Lookup.ToASCII(address[at:])
	if err != nil {
		return address
	}
	return address[:at] + domain
}

// connect passes a mail client to the function use. It closes the client's connection when ctx ends or use
// returns, because go-mail heeds ctx only while it dials, and leaves the connection open if TLS or the
// sign-in fails.
func (s *SMTP) connect(ctx context.Context, use func(*gomail.Client) error) error {
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close() // usually go-mail has closed the connection already
		}
	}()
	stop := func() bool { return true }
	defer func() { stop() }()
	dial := func(dialCtx context.Context, network, address string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(dialCtx, network, address)
		if err != nil {
			return nil, err
		}
		conn = raw
		stop = context.AfterFunc(ctx, func() { _ = raw.Close() })
		return s.secure(dialCtx, raw)
	}

	options := []gomail.Option{
		gomail.WithPort(s.port),
		gomail.WithTimeout(timeout),
		gomail.WithDialContextFunc(dial),
		gomail.WithoutNoop(),
		gomail.WithoutRset(), // if RSET failed, an accepted message would look unsent
	}
	auth := []gomail.SMTPAuthType{gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin}
	switch s.scheme {
	case startTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory), gomail.WithTLSConfig(s.tls))
	case implicitTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS)) // the function dial has already set up TLS
	case plainText:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
		auth = []gomail.SMTPAuthType{gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc}
	}
	if s.user != "" {
		options = append(options, gomail.WithUsername(s.user), gomail.WithPassword(s.pass),
			gomail.WithOpportunisticSMTPAuth(auth...))
	}
	client, err := gomail.NewClient(s.host, options...)
	if err != nil {
		return err
	}
	err = use(client)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // err only says "use of closed network connection"
	}
	return err
}

// secure starts TLS on a new smtps connection. For other schemes it checks that the address of the
// server is allowed.
func (s *SMTP) secure(ctx context.Context, raw net.Conn) (net.Conn, error) {
	if s.scheme == implicitTLS {
		conn := tls.Client(raw, s.tls)
		return conn, conn.HandshakeContext(ctx)
	}
	// Check the dialed address, because a host name may resolve to any IP address.
	peer, err := netip.ParseAddrPort(raw.RemoteAddr().String())
	if err != nil || !s.mayReach(peer.Addr()) {
		return nil, errPlaintext
	}
	return raw, nil
}

func (s *SMTP) address() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// control reports whether a text contains a control character.
func control(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }
