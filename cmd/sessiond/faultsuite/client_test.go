package faultsuite

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// reply is a response, or the zero value if there was none.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) answer() answer {
	switch {
	case r.status >= 200 && r.status < 300:
		return good
	case r.status == 401:
		return refused
	case r.status == 503, r.status == 0:
		return unavailable
	default:
		return odd
	}
}

// text returns the member of the JSON body at a path such as "session.id".
func (r reply) text(path string) string {
	var v any
	_ = json.Unmarshal(r.body, &v)
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	text, _ := v.(string)
	return text
}

// browser sends requests. A fault may make a request fail, so an error is an empty reply.
type browser struct {
	http.Client
	again atomic.Int64 // how often Go sent a request a second time, because its connection was closed before a response
}

func newBrowser() *browser {
	return &browser{Client: http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}}}
}

// send sends a request. body is nil, url.Values for a form, or anything else for JSON.
func (b *browser) send(method, url, token string, body any) reply {
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		panic(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if data, contentType := encode(body); data != nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
		r.Header.Set("Content-Type", contentType)
	}
	connections := 0
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if connections++; connections > 1 {
			b.again.Add(1)
		}
	}}))
	resp, err := b.Do(r)
	if err != nil {
		return reply{}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}
	}
	return reply{resp.StatusCode, resp.Header, data}
}

func encode(body any) (data []byte, contentType string) {
	switch body := body.(type) {
	case nil:
		return nil, ""
	case url.Values:
		return []byte(body.Encode()), "application/x-www-form-urlencoded"
	default:
		data, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		return data, "application/json"
	}
}

type object map[string]any
