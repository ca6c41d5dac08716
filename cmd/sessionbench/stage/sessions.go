package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

const (
	issuerURL = "https://sessionbench.example"
	tokenTTL  = 6 * time.Hour // longer than any run
)

// Keys has a key to sign with for each algorithm, by the algorithm's name.
type Keys map[string]*session.KeySet

// makeKeys makes a key for every algorithm and writes them to a file as serve reads it. The first is
// active; all of them verify.
func makeKeys(path string) Keys {
	keys, made := Keys{}, []session.Key(nil)
	for _, alg := range []string{session.AlgEdDSA, session.AlgES256, session.AlgHS256} {
		k := must.Get(session.GenerateKey(alg))
		made, keys[alg] = append(made, k), must.Get(session.NewKeySet(k))
	}
	must.Do(os.WriteFile(path, must.Get(must.Get(session.NewKeySet(made...)).PrivateJSON()), 0o600))
	return keys
}

// Mint makes n requests of these sessions in turn, each with a token of its own.
func (ks Keys) Mint(ctx context.Context, alg string, refs []session.Ref, n int) []load.Request {
	requests, now := make([]load.Request, n), time.Now()
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range requests {
		g.Go(func() error {
			ref := refs[i%len(refs)]
			token, err := ks[alg].Sign(&session.Claims{
				Issuer: issuerURL, Audience: issuerURL, Subject: ref.Subject, SessionID: ref.SessionID, TokenID: issuer.NewID(), ClientID: "sessiond",
				IssuedAt: now, ExpiresAt: now.Add(tokenTTL), AuthTime: now, AMR: []string{"pwd"}, Username: "ada",
			})
			requests[i] = load.NewRequest(token, ref.SessionID)
			return errors.Join(err, ctx.Err())
		})
	}
	must.Do(g.Wait())
	return requests
}

// NewSessions names n sessions, each of a user of its own or all of one user.
func NewSessions(n int, oneUser bool) []session.Ref {
	refs := make([]session.Ref, n)
	for i := range refs {
		refs[i] = session.Ref{Subject: issuer.NewID(), SessionID: issuer.NewTimedID(time.Now())}
		if oneUser {
			refs[i].Subject = refs[0].Subject
		}
	}
	return refs
}

// Pick picks n of refs at even distances. It copies the strings. Otherwise the load generator would
// be slower with many sessions, because the strings lie far apart in memory.
func Pick(refs []session.Ref, n int) []session.Ref {
	picked := make([]session.Ref, min(n, len(refs)))
	for i := range picked {
		r := refs[i*len(refs)/len(picked)]
		picked[i] = session.Ref{Subject: strings.Clone(r.Subject), SessionID: strings.Clone(r.SessionID)}
	}
	return picked
}

// Space is a database of the Redis that was empty.
type Space struct {
	Client *redis.Client
	URL    string
}

// keyPrefix begins the names of all keys that sessiond does not write.
const keyPrefix = "sessionbench:"

// Claim takes an empty database of the Redis until the current scope ends. It leaves a key there.
// Otherwise two runs could take the same one.
func (s *Stage) Claim(ctx context.Context) *Space {
	for db := 1; db < 16; db++ { // Redis has 16 by default; the first is everybody's
		options := *s.Redis.Options()
		options.DB = db
		client := redis.NewClient(&options)
		keys, err := client.DBSize(ctx).Result()
		if err == nil && keys == 0 && client.SetArgs(ctx, keyPrefix+"claim", "1", redis.SetArgs{Mode: "NX"}).Err() == nil {
			u := *s.redisURL
			u.Path = "/" + strconv.Itoa(db)
			sp := &Space{client, u.String()}
			s.Later(func() error { return sp.close(context.WithoutCancel(ctx)) })
			return sp
		}
		_ = client.Close() // nothing was written
	}
	panic(must.Get(0, errors.New("no database of this Redis is empty")))
}

// close removes what sessiond and we write, and nothing else.
func (sp *Space) close(ctx context.Context) error {
	for _, pattern := range []string{"[slbgr]:{*", keyPrefix + "*"} {
		for cursor, more := uint64(0), true; more; more = cursor != 0 {
			keys, next, err := sp.Client.Scan(ctx, cursor, pattern, 10_000).Result()
			if err == nil && len(keys) > 0 {
				err = sp.Client.Unlink(ctx, keys...).Err()
			}
			if err != nil {
				return errors.Join(err, sp.Client.Close())
			}
			cursor = next
		}
	}
	return sp.Client.Close()
}

// Fill puts sessions into Redis by the store's own backfill. Sessions of one user take turns,
// because a user has one lease.
func (s *Stage) Fill(ctx context.Context, sp *Space, refs []session.Ref) {
	workers := 64
	if len(refs) > 1 && refs[0].Subject == refs[1].Subject {
		workers = 1
	}
	store := must.Get(redisstore.Open(sp.URL, redisstore.Options{PoolSize: workers, LookTimeout: load.Patience}))
	defer store.Close() //nolint:errcheck // nothing is under way
	until := time.Now().Add(tokenTTL)
	snapshot := issuer.Snapshot{
		Entry: session.Entry{Generation: 1, ExpiresAt: until.Add(24 * time.Hour)},
		Until: until, SubjectGeneration: 1, SubjectUntil: until,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i, ref := range refs {
		if i%100_000 == 0 {
			s.Say("putting sessions into Redis: %d of %d", i, len(refs))
		}
		g.Go(func() error {
			lease, done, err := store.Lease(ctx, ref.Subject)
			if done && err == nil {
				done, err = store.Backfill(ctx, lease, ref, snapshot)
			}
			if err == nil && !done {
				err = fmt.Errorf("cannot put session %s into Redis: does another program use its keys?", ref.SessionID)
			}
			return err
		})
	}
	must.Do(g.Wait())
}

// FillPlain gives the plain design its sessions.
func (sp *Space) FillPlain(ctx context.Context, refs []session.Ref) {
	pipe := sp.Client.Pipeline()
	for _, ref := range refs {
		pipe.Set(ctx, plainSession(ref.SessionID), "1", tokenTTL)
	}
	must.Get(pipe.Exec(ctx))
}

// CeilingKeys makes keys like the three that a check asks for. Nothing is on the blacklist.
func (sp *Space) CeilingKeys(ctx context.Context) (generation, entry, blacklist string) {
	generation, entry, blacklist = keyPrefix+"ceiling:g", keyPrefix+"ceiling:s", keyPrefix+"ceiling:b"
	must.Do(sp.Client.MSet(ctx, generation, "1", entry, "eleven byte").Err())
	return generation, entry, blacklist
}

// Verifier returns what another Go service puts in front of its own routes, on a Redis. Its
// sessions are all in Redis, so it has no fallback. It is closed with the current scope.
func (s *Stage) Verifier(redisURL string, options redisstore.Options) (*session.Verifier, *redisstore.Store) {
	store := must.Get(redisstore.Open(redisURL, options))
	s.Later(store.Close)
	const tokens = 1 << 17 // as in sessiond
	return &session.Verifier{
		Keys: session.NewKeyring(must.Get(session.ParseKeySet(must.Get(os.ReadFile(s.keysFile()))))), Issuer: issuerURL, Audience: issuerURL,
		Store: store, Signatures: session.NewSignatureCache(tokens),
	}, store
}

// revokedEvery: of the sessions that SignIn opens, one of so many is revoked. If Redis's reply goes to
// the wrong check, a live session is refused or a revoked one accepted. The session's name would not
// show it, because it comes from the token.
const revokedEvery = 4

// SignIn opens n sessions as a login does, without the cost of passwords, and revokes some of them.
func (s *Stage) SignIn(ctx context.Context, sp *Space, n int) ([]load.Request, issuer.Finder) {
	s.Say("signing in %d sessions", n)
	db := s.openDB(ctx)
	v, store := s.Verifier(sp.URL, redisstore.Options{LookTimeout: load.Patience, ApplyTimeout: load.Patience})
	v.Now = time.Now
	m := issuer.Manager{
		Verifier: *v, Store: store, Ledger: db.Sessions(), Log: slog.New(slog.DiscardHandler),
		AccessTTL: tokenTTL, IdleTTL: 2 * tokenTTL, MaxTTL: 2 * tokenTTL,
	}
	const perUser = 10
	var requests []load.Request
	var user identity.User
	for i := range n {
		if i%perUser == 0 {
			user = newUser(ctx, db, "none")
		}
		set, opened, err := m.Start(ctx, issuer.Subject{ID: user.ID, CredentialVersion: user.PasswordVersion}, issuer.Client{})
		must.Do(err)
		r := load.NewRequest(set.AccessToken, opened.ID)
		if r.Revoked = i%revokedEvery == 0; r.Revoked {
			must.Get(m.Revoke(ctx, user.ID, opened.ID, issuer.ReasonRevoked))
		}
		requests = append(requests, r)
	}
	return requests, m.Ledger
}

// People makes n users who can log in and returns their names. They share one password and its hash,
// because only checking the hash is measured.
func (s *Stage) People(ctx context.Context, hash string, n int) (names []string) {
	db := s.openDB(ctx)
	for range n {
		names = append(names, newUser(ctx, db, hash).Username)
	}
	return names
}

func (s *Stage) openDB(ctx context.Context) *sqlstore.DB {
	db := must.Get(sqlstore.Open(ctx, s.Latest().databaseURL, sqlstore.Options{}))
	s.Later(db.Close)
	return db
}

func newUser(ctx context.Context, db *sqlstore.DB, hash string) identity.User {
	id, now := issuer.NewTimedID(time.Now()), time.Now()
	user := identity.User{
		ID: id, Username: id, Email: id + "@example.com", PasswordHash: hash, PasswordVersion: 1,
		Status: identity.StatusActive, CreatedAt: now, UpdatedAt: now,
	}
	must.Do(db.Users().Create(ctx, user, time.Time{}, nil))
	return user
}
