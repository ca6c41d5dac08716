package api

import (
	"context"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/sessiond/sessiond/session"
)

// fieldConn keeps the fields that are set.
type fieldConn struct {
	net.Conn
	fields []byte
}

func (c *fieldConn) FieldBuffer() []byte     { return c.fields[:0] }
func (c *fieldConn) SetFields(fields []byte) { c.fields = fields }

// What would end a field early takes the way on which it is cleaned, and never
// reaches the connection.
func TestPassTakesPlainValuesPastTheHeader(t *testing.T) {
	for subject, plain := range map[string]bool{"u1": true, "u 1": true, "u\r\nX-Auth-Subject: root": false, "u\x7f": false, "ü": false} {
		conn := &fieldConn{}
		r := httptest.NewRequest("GET", verifyPattern, nil)
		r = r.WithContext(ConnContext(context.Background(), conn))
		w := httptest.NewRecorder()
		pass(w, r, &session.Claims{Subject: subject, Username: "ada love", SessionID: "s", TokenID: "j"}, "id")
		const rest = "\r\nX-Auth-Username: ada%20love\r\nX-Auth-Session: s\r\nX-Auth-Token-Id: j\r\nX-Request-Id: id\r\n"
		if want := "X-Auth-Subject: " + subject + rest + string(secureFields); plain && (string(conn.fields) != want || len(w.Header()) > 0) {
			t.Errorf("%q: %q and %v", subject, conn.fields, w.Header())
		}
		if !plain && (len(conn.fields) > 0 || w.Header().Get("X-Auth-Subject") != subject || w.Header().Get("Cache-Control") != "no-store") {
			t.Errorf("%q: %q and %v", subject, conn.fields, w.Header())
		}
	}
}
