package main

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

const (
	tokenIssuer = "https://sessionbench.example"
	// tokenTTL is longer than any run.
	tokenTTL = 6 * time.Hour
)

// mint makes an access token of a session, with every claim that a login gives it.
func (k *key) mint(ref session.Ref, now time.Time) (string, error) {
	token := jwt.NewWithClaims(k.method, jwt.MapClaims{
		"iss": tokenIssuer, "aud": tokenIssuer, "sub": ref.Subject, "sid": ref.SessionID, "jti": ref.TokenID,
		"client_id": "sessiond", "iat": now.Unix(), "exp": now.Add(tokenTTL).Unix(), "auth_time": now.Unix(),
		"amr": []string{"pwd"}, "username": "ada",
	})
	token.Header["typ"], token.Header["kid"] = "at+jwt", k.id
	signed, err := token.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed, nil
}

// request is one check that is asked for, and what its answer has to be.
type request struct {
	wire    []byte // as it goes over HTTP
	token   string
	session string
	revoked bool
}

// checkPath is what every contender is asked for, the same bytes for all.
const checkPath = "/v1/verify"

func newRequest(token, session string) request {
	var b bytes.Buffer
	b.WriteString("GET " + checkPath + " HTTP/1.1\r\nHost: sessionbench\r\nAuthorization: Bearer " + token + "\r\n\r\n")
	return request{wire: b.Bytes(), token: token, session: session}
}

// mintAll makes n requests, on all cores, each with a token of its own, of these
// sessions in turn.
func (k *key) mintAll(ctx context.Context, refs []session.Ref, n int) ([]request, error) {
	requests := make([]request, n)
	now := time.Now()
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				ref := refs[i%len(refs)]
				ref.TokenID = issuer.NewID()
				token, err := k.mint(ref, now)
				if err != nil {
					return err
				}
				requests[i] = newRequest(token, ref.SessionID)
			}
			return ctx.Err()
		})
	}
	return requests, g.Wait()
}

// newSessions names n sessions, each of a user of its own.
func newSessions(n int) []session.Ref {
	refs := make([]session.Ref, n)
	for i := range refs {
		refs[i] = session.Ref{Subject: issuer.NewID(), SessionID: issuer.NewTimedID(time.Now())}
	}
	return refs
}

// sessionsOfOne names n sessions of one user.
func sessionsOfOne(n int) []session.Ref {
	refs := newSessions(n)
	for i := range refs {
		refs[i].Subject = refs[0].Subject
	}
	return refs
}

// spreadOver picks n of refs, evenly. They are copies: those who check the answers
// must not pay for how far apart the others lie in memory.
func spreadOver(refs []session.Ref, n int) []session.Ref {
	n = min(n, len(refs))
	picked := make([]session.Ref, n)
	for i := range picked {
		r := refs[i*len(refs)/n]
		picked[i] = session.Ref{Subject: strings.Clone(r.Subject), SessionID: strings.Clone(r.SessionID)}
	}
	return picked
}

// supply hands out requests to those who ask at once.
type supply struct {
	requests []request
	once     bool // each is handed out once; else they go round
	next     atomic.Int64
}

// take returns nil when there is none left.
func (s *supply) take() *request {
	i := int(s.next.Add(1)) - 1
	if i >= len(s.requests) {
		if s.once {
			return nil
		}
		i %= len(s.requests)
	}
	return &s.requests[i]
}
