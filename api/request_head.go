package api

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxHead is the size of the largest request head that is accepted, in bytes. The head is the request
// line and the header fields.
const maxHead = 16 << 10

// unframed is the size of a body whose end only its chunks show.
const unframed = math.MaxInt64

var (
	errBadHead     = &errRequest{http.StatusBadRequest, "invalid_request", "The request is not well-formed HTTP/1.1."}
	errExpectation = &errRequest{http.StatusExpectationFailed, "expectation_failed", "The only expectation that can be met is 100-continue."}
	errLargeHead   = &errRequest{http.StatusRequestHeaderFieldsTooLarge, "headers_too_large", "The request line and headers are larger than 16 KiB."}
	errEncoding    = &errRequest{http.StatusNotImplemented, "not_implemented", "The only transfer encoding that is understood is chunked."}
	errVersion     = &errRequest{http.StatusHTTPVersionNotSupported, "version_not_supported", "Send HTTP/1.1."}
)

// head is what the head of a request says about the connection.
type head struct {
	size int   // bytes of the head; 0 if its end has not arrived yet
	body int64 // bytes of the body, or unframed

	method, target            []byte
	old                       bool // HTTP/1.0
	hosts, lengths, encodings int  // number of fields Host, Content-Length and Transfer-Encoding
}

// readHead reads the head of a request at the start of data. It refuses every head that two
// implementations of HTTP could read differently (RFC 9112 section 11.2), and every head that
// net/http would refuse. Otherwise net/http would answer without security headers.
func readHead(data []byte) (h head, err *errRequest) {
	for rest := data; ; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			if len(data) > maxHead {
				return head{}, errLargeHead
			}
			return head{}, nil
		}
		if end == 0 || rest[end-1] != '\r' {
			return head{}, errBadHead
		}
		line := rest[:end-1]
		rest = rest[end+1:]
		if len(data)-len(rest) > maxHead {
			return head{}, errLargeHead
		}
		switch {
		case h.method == nil:
			err = h.requestLine(line)
		case len(line) > 0:
			err = h.field(line)
		default:
			h.size = len(data) - len(rest)
			return h, h.framing()
		}
		if err != nil {
			return head{}, err
		}
	}
}

func (h *head) requestLine(line []byte) *errRequest {
	var version []byte
	h.method, version, _ = bytes.Cut(line, []byte(" "))
	h.target, version, _ = bytes.Cut(version, []byte(" "))
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.old = true
	default:
		if len(version) == len("HTTP/1.1") && bytes.HasPrefix(version, []byte("HTTP/")) {
			return errVersion
		}
		return errBadHead
	}
	if len(h.method) == 0 || !tokenBytes.contain(h.method) || !targetBytes.contain(h.target) || !h.isTarget() {
		return errBadHead
	}
	return nil
}

// isTarget reports whether net/http can parse the target. It refuses the target "*", which only
// OPTIONS may have.
func (h *head) isTarget() bool {
	switch {
	case len(h.target) == 0 || h.target[0] == '*':
		return false
	case h.target[0] == '/' && bytes.IndexByte(h.target, '%') < 0:
		return true
	}
	target := string(h.target)
	if string(h.method) == http.MethodConnect && target[0] != '/' {
		target = "http://" + target
	}
	_, err := url.ParseRequestURI(target)
	return err == nil
}

func (h *head) field(line []byte) *errRequest {
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found || len(name) == 0 || !tokenBytes.contain(name) || !isFieldValue(value) {
		return errBadHead
	}
	value = bytes.Trim(value, " \t")
	is := func(lower string) bool { return bytes.EqualFold(name, []byte(lower)) }
	switch len(name) { // the length of most fields already tells that they do not matter here
	case len("Host"):
		if is("host") {
			h.hosts++
			if !hostBytes.contain(value) {
				return errBadHead
			}
		}
	case len("Expect"):
		if is("expect") && len(value) > 0 && !bytes.EqualFold(value, []byte("100-continue")) {
			return errExpectation
		}
	case len("Trailer"):
		if is("trailer") && !isTrailer(value) {
			return errBadHead
		}
	case len("Content-Length"):
		if is("content-length") {
			n, err := strconv.ParseUint(string(value), 10, 62)
			if err != nil {
				return errBadHead
			}
			h.lengths++
			h.body = int64(n)
		}
	case len("Transfer-Encoding"):
		if is("transfer-encoding") {
			if !bytes.EqualFold(value, []byte("chunked")) {
				return errEncoding
			}
			h.encodings++
		}
	}
	return nil
}

// isTrailer reports whether net/http accepts the value of the field Trailer.
func isTrailer(value []byte) bool {
	for name := range strings.SplitSeq(string(value), ",") {
		switch http.CanonicalHeaderKey(strings.TrimSpace(name)) {
		case "Transfer-Encoding", "Content-Length", "Trailer":
			return false
		}
	}
	return true
}

// framing checks the fields that say where the request ends and which host it is for. HTTP/1.0 knows no
// chunks, and some implementations therefore ignore the field Transfer-Encoding there.
func (h *head) framing() *errRequest {
	switch {
	case h.hosts > 1, h.hosts == 0 && !h.old, h.lengths > 1, h.encodings > 1,
		h.encodings > 0 && (h.old || h.lengths > 0):
		return errBadHead
	case h.encodings > 0:
		h.body = unframed
	}
	return nil
}

// byteSet is a set of bytes.
type byteSet [256]bool

// newByteSet returns the set of the bytes for which in returns true.
func newByteSet(in func(b byte) bool) (s byteSet) {
	for i := range s {
		s[i] = in(byte(i))
	}
	return s
}

// contain reports whether all bytes of text are in the set.
func (s *byteSet) contain(text []byte) bool {
	for _, b := range text {
		if !s[b] {
			return false
		}
	}
	return true
}

// isFieldValue reports whether a text may be the value of a field. It looks at eight bytes at once for
// control characters, because the value of Authorization is long.
func isFieldValue(text []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(text) >= 8 {
		word := binary.LittleEndian.Uint64(text)
		deleted := word ^ ones*0x7f                      // has a zero byte where word has DEL
		found := (word - ones*' ') &^ word & high        // a byte below the space
		found |= (deleted - ones) & ^deleted & high      // a zero byte
		if found != 0 && !valueBytes.contain(text[:8]) { // a tab is allowed, and a borrow may find too much
			return false
		}
		text = text[8:]
	}
	return valueBytes.contain(text)
}

var (
	// RFC 9110 section 5.6.2
	tokenBytes = newByteSet(func(b byte) bool { return isAlphanumeric(b) || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 })
	// RFC 3986 section 3.2.2, with a port
	hostBytes   = newByteSet(func(b byte) bool { return isAlphanumeric(b) || strings.IndexByte("!$%&'()*+,-.:;=[]_~", b) >= 0 })
	targetBytes = newByteSet(func(b byte) bool { return b > ' ' && b != 0x7f })
	// RFC 9110 section 5.5
	valueBytes = newByteSet(func(b byte) bool { return b >= ' ' && b != 0x7f || b == '\t' })
)

func isAlphanumeric(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}
