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
)

const issuerURL, tokenTTL = "https://sessionbench.example", 6 * time.Hour // longer than sessionbench ever runs

// Keys maps the name of each signature algorithm to a signing key.
type Keys map[string]*session.KeySet

// makeKeys writes a key for every algorithm to a file for `sessiond serve`. The first key is
// active, which means that it signs. All keys verify.
func makeKeys(path string) Keys {
	keys, made := Keys{}, []session.Key(nil)
	for _, alg := range []string{session.AlgEdDSA, session.AlgES256, session.AlgHS256} {
		k := must.Get(session.GenerateKey(alg))
		made, keys[alg] = append(made, k), must.Get(session.NewKeySet(k))
	}
	must.Do(os.WriteFile(path, must.Get(must.Get(session.NewKeySet(made...)).PrivateJSON()), 0o600))
	return keys
}

// Mint makes n requests, each with a new token for one of the sessions in refs. If refs has more
// than n sessions, those at even distances are used. Request.Session is a copy of the id, because
// reading strings that lie far apart in memory would slow down the load generator.
func (ks Keys) Mint(ctx context.Context, alg string, refs []session.Ref, n int) []load.Request {
	requests, now := make([]load.Request, n), time.Now()
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range requests {
		ref := refs[i*max(1, len(refs)/n)%len(refs)]
		g.Go(func() error {
			token, err := ks[alg].Sign(&session.Claims{
				Issuer: issuerURL, Audience: []string{issuerURL}, Subject: ref.Subject, SessionID: ref.SessionID, TokenID: issuer.NewID(), ClientID: "sessiond",
				IssuedAt: now, ExpiresAt: now.Add(tokenTTL), AuthTime: now, AMR: []string{"pwd"}, Username: "ada",
			})
			requests[i] = load.NewRequest(token, strings.Clone(ref.SessionID))
			return errors.Join(err, ctx.Err())
		})
	}
	must.Do(g.Wait())
	return requests
}

// NewSessions returns the ids of n new sessions. All belong to the same user if oneUser is set.
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

// Space is one of the numbered databases of the Redis server. It was empty before this run.
type Space struct {
	Client *redis.Client
	URL    string
}

// keyPrefix starts the names of all Redis keys that sessionbench itself writes.
const keyPrefix = "sessionbench:"

// Claim reserves an empty database of the Redis server until the current Scope ends. It writes a
// key to the database, because otherwise two runs of sessionbench could take the same one.
func (s *Stage) Claim(ctx context.Context) *Space {
	for db := 1; db < 16; db++ { // Redis has 16 databases; other programs may use number 0
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
		_ = client.Close() // an error does not matter, because nothing was written
	}
	must.Do(errors.New("databases 1 to 15 of this Redis are all in use"))
	return nil
}

// close removes the keys of sessiond and sessionbench from the Redis database, and no others.
func (sp *Space) close(ctx context.Context) error {
	return errors.Join(sp.remove(ctx, "[slbgr]:{*", keyPrefix+"*"), sp.Client.Close())
}

// Forget removes the keys of sessiond, as if Redis had lost them.
func (sp *Space) Forget(ctx context.Context) error { return sp.remove(ctx, "[slbgr]:{*") }

func (sp *Space) remove(ctx context.Context, patterns ...string) error {
	for _, pattern := range patterns {
		for cursor, more := uint64(0), true; more; more = cursor != 0 {
			keys, next, err := sp.Client.Scan(ctx, cursor, pattern, 10_000).Result()
			if err == nil && len(keys) > 0 {
				err = sp.Client.Unlink(ctx, keys...).Err()
			}
			if err != nil {
				return err
			}
			cursor = next
		}
	}
	return nil
}

// Fill puts sessions into Redis with the backfill of redisstore.
func (s *Stage) Fill(ctx context.Context, redisURL string, refs []session.Ref) {
	const workers = 64
	store := must.Get(redisstore.Open(redisURL, redisstore.Options{PoolSize: workers, LookTimeout: load.Patience}))
	defer store.Close() //nolint:errcheck // no command is running
	trust(ctx, store)
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
			lease, done, err := store.Lease(ctx, ref)
			if done && err == nil {
				done, err = store.Backfill(ctx, lease, ref, snapshot)
			}
			if err == nil && !done {
				err = fmt.Errorf("cannot put session %s into Redis; another program may be using the same database", ref.SessionID)
			}
			return err
		})
	}
	must.Do(g.Wait())
}

// trust makes a store trust its Redis as long as the benchmark runs, in the epoch that a service on a
// new database begins: number 1, or on a Cluster the number of its masters.
func trust(ctx context.Context, store *redisstore.Store) {
	servers := must.Get(store.Servers(ctx))
	var epochs []session.Epoch
	for _, server := range servers {
		epochs = append(epochs, session.Epoch{Number: int64(len(servers)), Server: server.ID})
	}
	store.Epochs().Learn(epochs, time.Now().Add(24*time.Hour), 24*time.Hour)
}

// CeilingKeys are like the three keys that a check reads. The third one does not exist.
var CeilingKeys = []string{keyPrefix + "ceiling:g", keyPrefix + "ceiling:s", keyPrefix + "ceiling:b"}

// FillPlain writes to Redis the keys that the plain design and redis-benchmark read.
func (sp *Space) FillPlain(ctx context.Context, refs []session.Ref) {
	pipe := sp.Client.Pipeline()
	pipe.MSet(ctx, CeilingKeys[0], "1", CeilingKeys[1], "eleven byte")
	for _, ref := range refs {
		pipe.Set(ctx, plainSession(ref.SessionID), "1", tokenTTL)
	}
	must.Get(pipe.Exec(ctx))
}

// Verifier returns a token verifier such as other Go services use, and its store. The verifier has
// no fallback to Postgres, because Redis has all sessions. The store closes with the current Scope.
func (s *Stage) Verifier(redisURL string, options redisstore.Options) (*session.Verifier, *redisstore.Store) {
	store := must.Get(redisstore.Open(redisURL, options))
	s.Later(store.Close)
	trust(context.Background(), store)
	const tokens = 1 << 17 // size of the signature cache, as in sessiond
	return &session.Verifier{
		Keys: session.NewKeyring(must.Get(session.ParseKeySet(must.Get(os.ReadFile(s.keysFile()))))), Issuer: issuerURL, Audience: issuerURL,
		Store: store, Signatures: session.NewSignatureCache(tokens),
	}, store
}

// SignIn opens n sessions as logins do, but without passwords, and revokes every fourth session.
func (s *Stage) SignIn(ctx context.Context, sp *Space, n int) ([]load.Request, issuer.Finder) {
	// If a Redis reply reaches the wrong check, a revoked session is accepted or an active one
	// refused. The session id in the answer reveals nothing, because it comes from the token.
	const revokedEvery, perUser = 4, 10
	s.Say("signing in %d sessions", n)
	v, store := s.Verifier(sp.URL, redisstore.Options{LookTimeout: load.Patience, ApplyTimeout: load.Patience})
	v.Now = time.Now
	m := issuer.Manager{
		Verifier: *v, Store: store, Ledger: s.db.Sessions(), Log: slog.New(slog.DiscardHandler),
		AccessTTL: tokenTTL, IdleTTL: 2 * tokenTTL, MaxTTL: 2 * tokenTTL,
	}
	must.Do(s.db.Sessions().ClearEpochs(ctx))
	m.PollEpochs(ctx)
	users := s.People(ctx, "none", n/perUser+1)
	requests := make([]load.Request, n)
	for i := range requests {
		user := users[i/perUser]
		set, opened, err := m.Start(ctx, issuer.Subject{ID: user, CredentialVersion: 1}, issuer.Client{})
		must.Do(err)
		requests[i] = load.NewRequest(set.AccessToken, opened.ID)
		if i%revokedEvery == 0 {
			requests[i].Revoked = true
			must.Get(m.Revoke(ctx, user, opened.ID, issuer.ReasonRevoked))
		}
	}
	return requests, m.Ledger
}

// Touch records that sessions were used at the time at, as replicas do in batches.
func (s *Stage) Touch(ctx context.Context, ids []string, at time.Time) {
	uses := make([]issuer.Use, 0, len(ids))
	for _, id := range ids {
		uses = append(uses, issuer.Use{SessionID: id, At: at})
	}
	must.Do(s.db.Sessions().Touch(ctx, uses))
}

// People creates n users and returns their ids, which are also their usernames. All have the same
// password hash, because only the verification of passwords is measured.
func (s *Stage) People(ctx context.Context, hash string, n int) (ids []string) {
	for range n {
		id, now := issuer.NewTimedID(time.Now()), time.Now()
		must.Do(s.db.Users().Create(ctx, identity.User{
			ID: id, Username: id, Email: id + "@example.com", PasswordHash: hash, PasswordVersion: 1,
			Status: identity.StatusActive, CreatedAt: now, UpdatedAt: now,
		}, time.Time{}, nil))
		ids = append(ids, id)
	}
	return ids
}
