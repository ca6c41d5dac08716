package sqlstore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// connector opens Postgres connections whose sockets get the deadline of each call's context. With
// it, a call ends at its deadline even if the server hangs. A statement that still runs on the
// server ends at the server's own statement_timeout.
//
// lib/pq alone would wait for the server's answer after the context is done, and open a second
// connection to cancel the statement. A server that hangs answers on neither connection.
type connector struct {
	config pq.Config
	// connecting has a place for each connection that is being opened. Postgres starts a process for
	// each, and on an overloaded machine many at once would all be given up before they are ready.
	connecting chan struct{}
}

// maxConnecting is how many connections are opened at once.
const maxConnecting = 2

func (c connector) Driver() driver.Driver { return &pq.Driver{} }

// Connect implements [driver.Connector].
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, &connectError{ctx.Err()}
	}
	inner, err := pq.NewConnectorConfig(c.config)
	if err != nil {
		return nil, &connectError{err}
	}
	var d dialer
	inner.Dialer(&d)
	// Close the socket when ctx is done, because lib/pq ignores ctx during the handshake.
	stop := context.AfterFunc(ctx, d.close)
	dc, err := inner.Connect(ctx)
	switch {
	case err != nil:
		stop()
		if e := pq.As(err, pqerror.ProtocolViolation); e != nil && strings.HasPrefix(e.Message, "unsupported startup parameter") {
			err = fmt.Errorf("%w: %w", err, errPgBouncer)
		}
		return nil, &connectError{err}
	case !stop():
		_ = dc.Close()
		return nil, &connectError{ctx.Err()}
	}
	return &conn{pqConn: dc.(pqConn), socket: d.socket}, nil
}

// connectError is any failure to connect to Postgres, for example a refused connection, an unknown
// host, a bad certificate or a wrong password.
type connectError struct{ error }

func (e *connectError) Error() string { return fmt.Sprintf("connect: %v", e.error) }
func (e *connectError) Unwrap() error { return e.error }

// dialer opens sockets for lib/pq and remembers the last one, so that it can be closed.
type dialer struct {
	net.Dialer
	mu     sync.Mutex
	socket net.Conn
}

// DialTimeout is a method of [pq.Dialer]. lib/pq never calls it, because dialer has DialContext.
func (d *dialer) DialTimeout(network, address string, _ time.Duration) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	socket, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.socket = socket
	return socket, nil
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket != nil {
		_ = d.socket.Close()
	}
}

type pqConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.QueryerContext
	driver.ExecerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

// conn is a lib/pq connection whose socket has the deadline of the last statement's context. The
// same deadline applies to reading the statement's rows, and to a commit or rollback.
type conn struct {
	pqConn
	socket net.Conn
	// outdated is true if the connection has a prepared statement that cannot be used any more.
	outdated bool
}

// IsValid implements [driver.Validator]. It makes the pool close an outdated connection.
func (c *conn) IsValid() bool { return !c.outdated && c.pqConn.IsValid() }

func (c *conn) noteOutdated(err error) error {
	c.outdated = c.outdated || isOutdated(err)
	return err
}

// setDeadline gives the socket the deadline of ctx. It returns a context that is never done, so
// that lib/pq does not open a second connection to cancel the statement.
func (c *conn) setDeadline(ctx context.Context) context.Context {
	deadline, _ := ctx.Deadline()
	_ = c.socket.SetDeadline(deadline) // SetDeadline fails only if the socket is closed; then the statement fails too
	return context.WithoutCancel(ctx)
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.pqConn.BeginTx(c.setDeadline(ctx), opts)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.pqConn.QueryContext(c.setDeadline(ctx), query, args)
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.pqConn.ExecContext(c.setDeadline(ctx), query, args)
}

func (c *conn) Ping(ctx context.Context) error {
	return c.pqConn.Ping(c.setDeadline(ctx))
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	inner, err := c.pqConn.PrepareContext(c.setDeadline(ctx), query)
	if err != nil {
		return nil, c.noteOutdated(err)
	}
	return &stmt{pqStmt: inner.(pqStmt), conn: c}, nil
}

// Close allows a second for the message that ends the connection, even if the last statement's
// deadline has passed.
func (c *conn) Close() error {
	_ = c.socket.SetDeadline(time.Now().Add(time.Second))
	return c.pqConn.Close()
}

type pqStmt interface {
	driver.Stmt
	driver.StmtQueryContext
	driver.StmtExecContext
}

type stmt struct {
	pqStmt
	conn *conn
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.pqStmt.QueryContext(s.conn.setDeadline(ctx), args)
	return rows, s.conn.noteOutdated(err)
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	result, err := s.pqStmt.ExecContext(s.conn.setDeadline(ctx), args)
	return result, s.conn.noteOutdated(err)
}
