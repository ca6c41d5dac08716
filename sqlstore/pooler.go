package sqlstore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

var (
	errPgBouncer = errors.New("PgBouncer accepts no settings at the start of a connection; add pgbouncer=true to the URL and no settings of the server")
	errPooler    = errors.New("a pooler such as PgBouncer sends the statements of one connection to several servers; add pgbouncer=true to the URL")
)

// Misconfigured reports whether an error of [Open] remains until the operator changes something, such
// as the password, the name of the database, or a certificate.
func Misconfigured(err error) bool {
	if e := pq.As(err); e != nil {
		switch e.Code.Class() {
		case "22", "28", "3D", "42": // invalid value, authorization, no such database, unknown setting or no permission
			return true
		}
		return e.Code == pqerror.CantChangeRuntimeParam || errors.Is(err, errPgBouncer)
	}
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	return certificate || authority || errors.Is(err, pq.ErrSSLNotSupported)
}

// CheckPooler returns an error if prepared statements do not stay with their connection, as behind
// PgBouncer in transaction mode without max_prepared_statements. A connection could then run the
// statement of another one. If the URL says pgbouncer=true, no statement is prepared, and CheckPooler
// returns nil. It also returns nil if the database does not answer.
func (db *DB) CheckPooler(ctx context.Context) error {
	if db.places == nil || db.perTransaction != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	err := db.probe(ctx)
	if isOutdated(err) || pq.As(err, pqerror.ProtocolViolation) != nil || errors.Is(err, errPooler) {
		return errPooler
	}
	return nil
}

// probe prepares a statement, keeps servers busy with transactions of other connections, and runs the
// statement. A pooler then runs it on another server. There are several other connections, because a
// pooler may run as several processes, each with servers of its own.
func (db *DB) probe(ctx context.Context) error {
	want := rand.Text() // another program's probe may be prepared under the same name
	conn, err := db.sql.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the connection goes back to the pool

	s, err := conn.PrepareContext(ctx, "SELECT '"+want+"'") //nolint:gosec // G202: want has only letters and digits
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // if this fails, the connection is closed
	for range min(5, cap(db.places)-1) {
		busy, err := db.sql.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer busy.Rollback() //nolint:errcheck // if this fails, the connection is closed
		var got string
		if err := s.QueryRowContext(ctx).Scan(&got); err != nil {
			return err
		}
		if got != want {
			return errPooler
		}
	}
	return nil
}
