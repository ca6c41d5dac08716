package sqlstore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"
)

// connector opens connections on which a context's deadline is the socket's.
//
// lib/pq waits for an answer whatever the context says: when the context is done
// it opens a second connection to cancel the statement. From a server that is
// cut off or stopped no answer comes, on neither. Here a call ends at its
// deadline in any case, and the statement, if it is still running, at the
// server's own statement_timeout.
type connector struct {
	config pq.Config
}

func (c connector) Driver() driver.Driver { return &pq.Driver{} }

// Connect implements [driver.Connector].
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := pq.NewConnectorConfig(c.config)
	if err != nil {
		return nil, &connectError{err}
	}
	var d dialer
	inner.Dialer(&d)
	// lib/pq dials under ctx, but shakes hands without it.
	stop := context.AfterFunc(ctx, d.hangUp)
	dc, err := inner.Connect(ctx)
	switch {
	case err != nil:
		stop()
		return nil, &connectError{err}
	case !stop():
		_ = dc.Close()
		return nil, &connectError{ctx.Err()}
	}
	return &conn{pqConn: dc.(pqConn), socket: d.socket}, nil
}

// connectError is a failure to connect, whatever the reason: refused, no such
// host, a bad certificate, a password that was changed.
type connectError struct{ error }

func (e *connectError) Error() string { return fmt.Sprintf("connect: %v", e.error) }
func (e *connectError) Unwrap() error { return e.error }

// dialer remembers the socket that it opened last.
type dialer struct {
	net    net.Dialer
	mu     sync.Mutex
	socket net.Conn
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	socket, err := d.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.socket = socket
	return socket, nil
}

func (d *dialer) hangUp() {
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

// conn is a connection of lib/pq whose socket keeps the deadline of the context
// of the latest statement. Rows, commit and rollback fall under that of their
// statement or transaction.
type conn struct {
	pqConn
	socket net.Conn
}

// arm sets the deadline and returns the context to go on with: one that lib/pq
// does not watch.
func (c *conn) arm(ctx context.Context) context.Context {
	deadline, _ := ctx.Deadline()
	_ = c.socket.SetDeadline(deadline) // fails on a closed socket only, and so will what follows
	return context.WithoutCancel(ctx)
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.pqConn.BeginTx(c.arm(ctx), opts)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.pqConn.QueryContext(c.arm(ctx), query, args)
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.pqConn.ExecContext(c.arm(ctx), query, args)
}

func (c *conn) Ping(ctx context.Context) error {
	return c.pqConn.Ping(c.arm(ctx))
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	inner, err := c.pqConn.PrepareContext(c.arm(ctx), query)
	if err != nil {
		return nil, err
	}
	return &stmt{pqStmt: inner.(pqStmt), conn: c}, nil
}

// Close says goodbye, which the last statement's deadline may not leave time for.
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
	return s.pqStmt.QueryContext(s.conn.arm(ctx), args)
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.pqStmt.ExecContext(s.conn.arm(ctx), args)
}
