package main

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// speak returns a client to whom these pieces are sent, one after another.
func speak(t *testing.T, pieces ...string) *client {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		for _, piece := range pieces {
			if _, err := io.WriteString(far, piece); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { near.Close(); <-done })
	return &client{conn: near}
}

const granted = "HTTP/1.1 200 OK\r\nX-Auth-Session: s-1\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 0\r\n\r\n"

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		pieces  []string
		status  int
		session string
	}{
		"whole":              {[]string{granted}, 200, "s-1"},
		"byte by byte":       {strings.Split(granted, ""), 200, "s-1"},
		"cut in the middle":  {[]string{granted[:len(granted)-3], granted[len(granted)-3:]}, 200, "s-1"},
		"names in any case":  {[]string{"HTTP/1.1 200 OK\r\nx-AUTH-session:s-1\r\ncontent-length: 0\r\n\r\n"}, 200, "s-1"},
		"no session":         {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, 200, ""},
		"a longer name":      {[]string{"HTTP/1.1 200 OK\r\nX-Auth-Sessions: s-1\r\nContent-Length: 0\r\n\r\n"}, 200, ""},
		"a body":             {[]string{"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nnope"}, 401, ""},
		"a long body":        {[]string{"HTTP/1.1 503 X\r\nContent-Length: 9000\r\n\r\n", strings.Repeat("x", 9000)}, 503, ""},
		"no body is allowed": {[]string{"HTTP/1.1 204 No Content\r\n\r\n"}, 204, ""},
	} {
		// A second answer shows that the first was used up to its last byte.
		client := speak(t, append(c.pieces, strings.Replace(granted, "s-1", "s-2", 1))...)
		a, err := client.read()
		if err != nil || a.status != c.status || string(a.session) != c.session {
			t.Errorf("%s: status %d, session %q, %v", name, a.status, a.session, err)
			continue
		}
		if a, err = client.read(); err != nil || string(a.session) != "s-2" {
			t.Errorf("%s, the answer after it: session %q, %v", name, a.session, err)
		}
	}
}

// Two answers in one piece are two answers.
func TestReadTwoAtOnce(t *testing.T) {
	client := speak(t, granted+strings.Replace(granted, "s-1", "s-2", 1))
	for _, want := range []string{"s-1", "s-2"} {
		if a, err := client.read(); err != nil || string(a.session) != want {
			t.Errorf("session %q, %v; want %s", a.session, err, want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, said := range map[string]string{
		"another protocol": "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
		"no number":        "HTTP/1.1 OK! OK\r\nContent-Length: 0\r\n\r\n",
		"a short line":     "HTTP/1.1 2\r\n\r\n",
		"no length":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a bad length":     "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"an endless head":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000),
	} {
		if a, err := speak(t, said).read(); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	for name, said := range map[string]string{
		"nothing":     "",
		"half a head": granted[:30],
		"half a body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
	} {
		if a, err := speak(t, said).read(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf, said := make([]byte, 64), []byte(granted)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			if _, err := conn.Write(said); err != nil {
				return
			}
		}
	}()
	c, err := dial(t.Context(), server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	question := []byte("?")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.ask(question); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("an answer costs %v allocations", n)
	}
	c.conn.Close()
	<-done
}

func TestJudge(t *testing.T) {
	live, dead := &request{session: "s-1"}, &request{session: "s-1", revoked: true}
	for name, c := range map[string]struct {
		a     answer
		r     *request
		named bool
		right bool
	}{
		"let through":              {answer{status: 200, session: []byte("s-1")}, live, true, true},
		"let through as another":   {answer{status: 200, session: []byte("s-2")}, live, true, false},
		"let through as nobody":    {answer{status: 200, session: nil}, live, true, false},
		"nobody is asked for":      {answer{status: 200, session: nil}, live, false, true},
		"turned away":              {answer{status: 401, session: nil}, live, true, false},
		"failed":                   {answer{status: 503, session: nil}, live, false, false},
		"revoked and turned away":  {answer{status: 401, session: nil}, dead, true, true},
		"revoked and let through":  {answer{status: 200, session: []byte("s-1")}, dead, true, false},
		"revoked and not answered": {answer{status: 503, session: nil}, dead, true, false},
	} {
		if err := c.a.judge(c.r, c.named); (err == nil) != c.right || err != nil && !errors.Is(err, errWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
