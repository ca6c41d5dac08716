package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// rawClient is a connection that sends exactly the given bytes. A client of net/http would correct them.
type rawClient struct {
	net.Conn
	*bufio.Reader
}

// rawServer is a running server.
type rawServer struct {
	addr   string
	status int // status of the answer to goodHead
}

// serveRaw starts a server whose handler answers with the method, the target and the body of a request.
func serveRaw(t *testing.T) rawServer {
	t.Helper()
	return start(t, 200, NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	}), slog.New(slog.DiscardHandler)))
}

// serveChecks starts a server of the check port. No dependency answers.
func serveChecks(t *testing.T) rawServer {
	t.Helper()
	return start(t, 404, (&API{Log: slog.New(slog.DiscardHandler)}).NewCheckServer())
}

func start(t *testing.T, status int, server interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
},
) rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return rawServer{l.Addr().String(), status}
}

func (s rawServer) dial(t *testing.T) rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return rawClient{conn, bufio.NewReader(conn)}
}

func (c rawClient) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		t.Fatal(err)
	}
}

// want fails the test unless the next response has this status and the security headers. It returns
// the response's body.
func (c rawClient) want(t *testing.T, status int) (header http.Header, body string) {
	t.Helper()
	response, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		t.Fatalf("status %d, want %d: %s %v", response.StatusCode, status, data, err)
	}
	for name := range securityHeaders {
		if got := response.Header.Values(name); len(got) != 1 || got[0] != securityHeaders.Get(name) {
			t.Errorf("status %d: %s is %q", status, name, got)
		}
	}
	if response.Close {
		c.wantClosed(t)
	}
	response.Header["X-Closed"] = []string{fmt.Sprint(response.Close)}
	return response.Header, string(data)
}

func (c rawClient) wantClosed(t *testing.T) {
	t.Helper()
	if rest, err := io.ReadAll(c.Reader); err != nil || len(rest) > 0 {
		t.Errorf("after the response, the connection has %q and the error %v, want its end", rest, err)
	}
}

const goodHead = "GET /good HTTP/1.1\r\nHost: x\r\n\r\n"

// refusedRequests are requests that two implementations of HTTP could read differently, or that
// net/http would answer itself.
var refusedRequests = []struct {
	name, request string
	status        int
}{
	{"Content-Length and Transfer-Encoding", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"Transfer-Encoding and Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 400},
	{"two different lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456", 400},
	{"one length twice", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1", 400},
	{"a list of lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n1", 400},
	{"a length with a sign", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n1", 400},
	{"a hexadecimal length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n1", 400},
	{"a negative length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n1", 400},
	{"an empty length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n1", 400},
	{"a length beyond 64 bits", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\n1", 400},
	{"an unknown transfer encoding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
	{"two transfer encodings", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	{"a transfer encoding with a tab", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", 400},
	{"a transfer encoding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"a trailer Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: a, content-length\r\n\r\n0\r\n\r\n", 400},
	{"a line that ends with LF", "GET / HTTP/1.1\nHost: x\n\n", 400},
	{"a field that ends with LF", "GET / HTTP/1.1\r\nHost: x\r\nA: b\n\r\n", 400},
	{"a bare CR in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n", 400},
	{"a folded line", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400},
	{"a space before the colon", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400},
	{"a space before the name", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400},
	{"a line without a colon", "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400},
	{"a field without a name", "GET / HTTP/1.1\r\nHost: x\r\n: nonsense\r\n\r\n", 400},
	{"a NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400},
	{"no host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400},
	{"a host with a slash", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400},
	{"a method with a control character", "G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a space in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a bad escape in the target", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a target without a slash", "GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a target without a path", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"an empty line that ends with LF", "\n" + goodHead, 400},
	{"a version in lower case", "GET / http/1.1\r\nHost: x\r\n\r\n", 400},
	{"no version", "GET /\r\n\r\n", 400},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"an unknown expectation", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\n1", 417},
	{"a long header", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", 25<<10) + "\r\n\r\n", 431},
	{"a head without an end", "GET /" + strings.Repeat("x", 25<<10), 431},
	{"a TLS handshake", "\x16\x03\x01\x02\x00\n" + strings.Repeat("\x00", 100), 400},
}

func TestServe_RefusesAmbiguousRequestsWithSecurityHeadersAndCloses_ASVS_V3_4_1_V3_4_4_V4_2_1(t *testing.T) {
	for name, server := range map[string]rawServer{"main port": serveRaw(t), "check port": serveChecks(t)} {
		for _, c := range refusedRequests {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				for what, before := range map[string]string{"first": "", "second": goodHead, "third, after a body": "POST /good HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n" + goodHead} {
					if server.status != 200 && strings.HasPrefix(before, "POST") {
						continue // the check port closes the connection after a body
					}
					client := server.dial(t)
					client.send(t, before+c.request+goodHead)
					for range strings.Count(before, "HTTP/1.1") {
						client.want(t, server.status)
					}
					header, body := client.want(t, c.status)
					if header.Get("Content-Type") != problemType || header.Get("X-Closed") != "true" ||
						!strings.Contains(body, fmt.Sprintf(`"status":%d`, c.status)) {
						t.Errorf("%s: got %v %s, want a problem and Connection: close", what, header, body)
					}
				}
			})
		}
	}
}

func TestServe_RefusesHeadThatArrivesSlowly(t *testing.T) {
	for _, server := range []rawServer{serveRaw(t), serveChecks(t)} {
		client := server.dial(t)
		for _, b := range []byte("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n") {
			client.send(t, string(b))
		}
		client.want(t, 400)
	}
}

// The check port reads no body. What follows one must not be taken for a request.
func TestCheckServer_AnswersBeforeTheBodyAndCloses(t *testing.T) {
	server := serveChecks(t)
	for _, head := range []string{
		"GET /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 43\r\n", "POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n",
		"DELETE /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n", "BREW /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n",
	} {
		for _, body := range []string{"", goodHead, strings.Repeat("x", 50_000)} {
			client := server.dial(t)
			client.send(t, head+"\r\n"+body)
			status := 401
			if strings.HasPrefix(head, "DELETE") {
				status = 405
			}
			if header, _ := client.want(t, status); header.Get("X-Closed") != "true" {
				t.Errorf("%q: the connection stays open", head)
			}
		}
	}
}

func TestCheckServer_SaysNothingToSilentClient(t *testing.T) {
	server := serveChecks(t)
	client := server.dial(t)
	conn := &checkConn{strictConn: &strictConn{Conn: client.Conn}}
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after its time-out, the connection returns %d bytes and the error %v, want the end", n, err)
	}
}

func TestServe_AcceptsRequestsInPiecesAndSeveralAtOnce(t *testing.T) {
	server := serveRaw(t)
	requests := []struct{ request, want string }{
		{goodHead, "GET /good "},
		{"POST /a?b=%zz HTTP/1.1\r\nhost:x:80\r\nCONTENT-LENGTH: \t 34 \r\nExpect: 100-Continue\r\nX:\xff\t\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil\r\n\r\n", "POST /a?b=%zz GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"},
		{"GET /%C3%BC/\xc3\xbc HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0\r\n\r\n", "GET /%C3%BC/\xc3\xbc "},
		{"BREW http://x/y HTTP/1.1\r\nHost:\r\n\r\n", "BREW http://x/y "},
		{"POST /crlf HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx\r\n\r\n", "POST /crlf x"},
		{"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\r\n", "GET /old "},
	}
	var all strings.Builder
	for _, r := range requests {
		all.WriteString(r.request)
	}
	for name, size := range map[string]int{"all at once": all.Len(), "bytes": 1, "pieces of 7 bytes": 7, "pieces of 100 bytes": 100} {
		t.Run(name, func(t *testing.T) {
			client := server.dial(t)
			go func() {
				for text := all.String(); text != ""; {
					n := min(size, len(text))
					if _, err := io.WriteString(client.Conn, text[:n]); err != nil {
						return
					}
					text = text[n:]
				}
			}()
			for _, r := range requests {
				if strings.Contains(r.request, "Expect") {
					interim, err := http.ReadResponse(client.Reader, nil)
					if err != nil || interim.StatusCode != 100 {
						t.Fatalf("got %v %v, want 100 Continue", interim, err)
					}
					_ = interim.Body.Close()
				}
				if _, body := client.want(t, 200); body != r.want {
					t.Errorf("got %q, want %q", body, r.want)
				}
			}
		})
	}
}

// The end of a chunked body is not known before net/http has read it. Nothing after it is a request.
func TestServe_ClosesConnectionAfterChunkedBody(t *testing.T) {
	server := serveRaw(t)
	client := server.dial(t)
	client.send(t, "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
	if _, body := client.want(t, 200); body != "POST /c abc" {
		t.Errorf("got %q", body)
	}
	client.wantClosed(t)
	client = server.dial(t)
	client.send(t, "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
	client.want(t, 400)
	client.wantClosed(t)
}

// A request that readHead accepts must mean the same to net/http. Otherwise net/http would refuse it
// without security headers, or strictConn would look for the next request in the wrong place.
func FuzzReadHead(f *testing.F) {
	for _, c := range refusedRequests {
		f.Add([]byte(c.request))
	}
	f.Add([]byte(goodHead))
	f.Add([]byte("GET /v1/verify HTTP/1.1\r\nHost: x\r\naUTHORIZATION:\tBearer a\r\nAuthorization: Bearer b \r\n\r\n"))
	f.Add([]byte("CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte("GET http://[::1%25eth0]/%2e?%zz HTTP/1.1\r\nHost: x\r\nExpect:\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, refusal := readHead(data)
		if refusal != nil || h.size == 0 {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data[:h.size])))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", data[:h.size], err)
		}
		if chunked := r.TransferEncoding != nil; chunked != (h.body == unframed) || !chunked && r.ContentLength != h.body {
			t.Fatalf("%q has a body of %d bytes, and for net/http of %d", data[:h.size], h.body, r.ContentLength)
		}
		var fast fasthttp.Request
		switch err := fast.Header.Read(bufio.NewReader(bytes.NewReader(data[:h.size]))); {
		case err != nil: // the check port refuses it
		case string(fast.Header.Method()) != r.Method || string(fast.Header.RequestURI()) != r.RequestURI:
			t.Fatalf("%q is %s %s, and for fasthttp %s %s", data[:h.size], r.Method, r.RequestURI, fast.Header.Method(), fast.Header.RequestURI())
		case !slices.Equal(headerValues(&fast.Header, "Authorization"), r.Header["Authorization"]):
			t.Fatalf("%q has the tokens %q, and for fasthttp %q", data[:h.size], r.Header["Authorization"], headerValues(&fast.Header, "Authorization"))
		}
		if expect := r.Header.Get("Expect"); expect != "" && !strings.EqualFold(expect, "100-continue") {
			t.Fatalf("net/http answers %q with 417", data[:h.size])
		}
	})
}

func TestIsFieldValue_ChecksEveryByte(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for b := range 256 {
				text := bytes.Repeat([]byte{'a', 0x80, ' ', 0xff, '~'}, 4)[:length]
				text[at] = byte(b)
				if got, want := isFieldValue(text), valueBytes[b]; got != want {
					t.Fatalf("isFieldValue(%q) is %v", text, got)
				}
			}
		}
	}
}

func BenchmarkReadHead(b *testing.B) {
	data := []byte("GET /v1/verify HTTP/1.1\r\nHost: sessiond.internal:8080\r\nX-Forwarded-For: 203.0.113.7\r\nX-Request-Id: 0f8fad5bd9cb469fa16570867728950e\r\n" +
		"Authorization: Bearer " + strings.Repeat("abcdefghij", 45) + "\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n\r\n")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if h, err := readHead(data); err != nil || h.size != len(data) {
			b.Fatal(h, err)
		}
	}
}
