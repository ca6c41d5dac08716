package app

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// leanListener hands out connections that cost a gateway's checks less (decision
// 0009). Deadlines are kept and clients served as by any other.
type leanListener struct{ net.Listener }

func (l leanListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, err
	}
	return &leanConn{tcpConn: tcp, reading: deadline{set: tcp.SetReadDeadline}, writing: deadline{set: tcp.SetWriteDeadline}}, err
}

// leanConn spares net/http three things that it does for each request.
//
// While a handler works, net/http reads the connection for one byte, in a
// goroutine of its own, to learn whether the client has left. For a check, which
// is answered in a millisecond, that is a system call, a park, a wake-up and two
// deadlines for nothing. So a connection whose last request was a check answers
// that read at once, with nothing: the context of a check does not end when its
// client leaves.
//
// It sets five deadlines, each of which the runtime has to file; here most are only noted.
//
// And it copies, sorts and cleans the header of an answer: see [api.FieldWriter].
type leanConn struct {
	tcpConn
	fields []byte // of the next answer; what follows in its array is scratch
	// check: what was last read began with a check, and nothing was asked for
	// since. Only net/http's one reader at a time looks at it.
	check            bool
	reading, writing deadline
}

// tcpConn is what leanConn takes from a connection as it is. It leaves out what
// would pass Read and Write by, as ReadFrom.
type tcpConn interface {
	net.Conn
	CloseWrite() error // net/http looks for it, to end one half after an error
}

// checkRequest begins every check of a gateway that asks by GET.
var checkRequest = []byte("GET /v1/verify")

// Read implements [net.Conn]. One read for a single byte is answered with
// nothing, and no more than one: it may also be the last byte that fits into the
// buffer that a request is read through, which is then asked for again.
func (c *leanConn) Read(p []byte) (n int, err error) {
	if len(p) == 1 && c.check {
		c.check = false
		return 0, nil
	}
	for {
		n, err = c.tcpConn.Read(p)
		if err == nil || n > 0 || !c.reading.early(err) {
			break
		}
	}
	c.check = bytes.HasPrefix(p[:n], checkRequest)
	return n, err
}

// FieldBuffer implements [api.FieldWriter].
func (c *leanConn) FieldBuffer() []byte { return c.fields[:0] }

// SetFields implements [api.FieldWriter].
func (c *leanConn) SetFields(fields []byte) { c.fields = fields }

// errNoStatusLine: what net/http writes first is not the head of an answer.
var errNoStatusLine = errors.New("fields were set, and no answer follows")

// Write implements [net.Conn]. Fields that were set go behind the status line,
// which net/http writes in one piece with what follows.
func (c *leanConn) Write(p []byte) (int, error) {
	n := len(c.fields)
	if n == 0 {
		return c.write(p)
	}
	line := bytes.IndexByte(p, '\n') + 1
	if line == 0 || !bytes.HasPrefix(p, []byte("HTTP/1.")) {
		return 0, errNoStatusLine
	}
	b := append(append(append(c.fields, p[:line]...), c.fields...), p[line:]...)
	c.fields = b[:0]
	if _, err := c.write(b[n:]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *leanConn) write(p []byte) (written int, err error) {
	for {
		n, err := c.tcpConn.Write(p[written:])
		written += n
		if err == nil || !c.writing.early(err) {
			return written, err
		}
	}
}

// SetReadDeadline implements [net.Conn].
func (c *leanConn) SetReadDeadline(t time.Time) error { return c.reading.note(t) }

// SetWriteDeadline implements [net.Conn].
func (c *leanConn) SetWriteDeadline(t time.Time) error { return c.writing.note(t) }

// SetDeadline implements [net.Conn].
func (c *leanConn) SetDeadline(t time.Time) error {
	return errors.Join(c.reading.note(t), c.writing.note(t))
}

// deadline sets one only when it is nearer than that which is set already. When
// the one that is set ends first, it was early, and the one that is wanted is set.
type deadline struct {
	set func(time.Time) error

	mu             sync.Mutex
	wanted, actual time.Time // zero: none
}

func (d *deadline) note(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if t.IsZero() || !d.actual.IsZero() && !t.Before(d.actual) {
		return nil
	}
	d.actual = t
	return d.set(t)
}

// early tells whether err is a time-out before the time, which is mended so that
// one may try again.
func (d *deadline) early(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted.IsZero() && !time.Now().Before(d.wanted) {
		return false
	}
	d.actual = d.wanted
	return d.set(d.actual) == nil
}
