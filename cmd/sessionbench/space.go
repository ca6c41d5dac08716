package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// space is the part of a Redis that is ours: the keys under a prefix, or a whole
// database that was empty.
type space struct {
	client *redis.Client
	url    string
	prefix string
}

// openSpace takes a random prefix in the database that the URL names.
func openSpace(redisURL string) (*space, error) {
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, errors.New("--redis-url: not the URL of a single Redis") // the error may quote the password
	}
	return &space{client: redis.NewClient(options), url: redisURL, prefix: "sessionbench-" + issuer.NewID() + ":"}, nil
}

// claim is a key in every database that is ours, lest another run takes it too.
const claim = "sessionbench"

// claimSpace takes a database of the same Redis that holds nothing, without a
// prefix: it is a cost, in bytes, that the service has not by default.
func (s *space) claimSpace(ctx context.Context) (*space, error) {
	own := s.client.Options().DB
	for db := 1; db < 16; db++ { // what a Redis has by default
		if db == own {
			continue
		}
		options := *s.client.Options()
		options.DB = db
		client := redis.NewClient(&options)
		keys, err := client.DBSize(ctx).Result()
		if err == nil && keys == 0 {
			if err := client.SetArgs(ctx, claim, "1", redis.SetArgs{Mode: "NX"}).Err(); err == nil {
				return &space{client: client, url: withPath(s.url, strconv.Itoa(db))}, nil
			}
		}
		_ = client.Close() // nothing was written
	}
	return nil, errors.New("no database of this Redis is empty: memory and growth need one for each number of sessions")
}

func withPath(rawURL, path string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return rawURL // it was parsed before
	}
	u.Path = "/" + path
	return u.String()
}

// store is the service's own store on this space.
func (s *space) store(options redisstore.Options) (*redisstore.Store, error) {
	options.Prefix = s.prefix
	return redisstore.Open(s.url, options)
}

// close removes our keys.
func (s *space) close(ctx context.Context) error {
	patterns := []string{s.prefix + "*"}
	if s.prefix == "" {
		patterns = []string{"[slbg]:{*", claim} // what a service writes, and no more
	}
	var problems []error
	for _, pattern := range patterns {
		problems = append(problems, s.unlink(ctx, pattern))
	}
	return errors.Join(append(problems, s.client.Close())...)
}

func (s *space) unlink(ctx context.Context, pattern string) error {
	const at = 10_000 // keys at a time
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		keys, next, err := s.client.Scan(ctx, cursor, pattern, at).Result()
		if err != nil {
			return fmt.Errorf("list the keys %s: %w", pattern, err)
		}
		if len(keys) > 0 {
			if err := s.client.Unlink(ctx, keys...).Err(); err != nil {
				return fmt.Errorf("remove the keys %s: %w", pattern, err)
			}
		}
		cursor = next
	}
	return nil
}

// fill puts sessions into Redis, by the one way in that the service has. Those of
// one user take turns, which is what a lease is for.
func (s *space) fill(ctx context.Context, refs []session.Ref, say func(done int)) (err error) {
	workers := 64
	if len(refs) > 1 && refs[0].Subject == refs[1].Subject {
		workers = 1
	}
	store, err := s.store(redisstore.Options{PoolSize: workers, LookTimeout: patience})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	until := time.Now().Add(tokenTTL)
	fill := issuer.Snapshot{
		Entry: session.Entry{Generation: 1, ExpiresAt: until.Add(24 * time.Hour)},
		Until: until, SubjectGeneration: 1, SubjectUntil: until,
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(refs); i = int(next.Add(1)) - 1 {
				if err := putBack(ctx, store, refs[i], fill); err != nil {
					return err
				}
				if (i+1)%100_000 == 0 {
					say(i + 1)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func putBack(ctx context.Context, store *redisstore.Store, ref session.Ref, fill issuer.Snapshot) error {
	lease, ok, err := store.Lease(ctx, ref.Subject)
	if err != nil {
		return err
	}
	done := false
	if ok {
		done, err = store.Backfill(ctx, lease, ref, fill)
	}
	if err == nil && !done {
		err = fmt.Errorf("session %s could not be put into Redis: is somebody else at its keys?", ref.SessionID)
	}
	return err
}
