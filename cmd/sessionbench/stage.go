package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	_ "github.com/lib/pq" // the driver "postgres"
)

// stage is what all parts stand on: the program to measure, its keys, and a
// database and a space in Redis that are its own.
type stage struct {
	config
	*progress
	program     string // sessiond
	keysFile    string
	keys        keys
	databaseURL string // of our own database
	space       *space
	undo        []func() error
}

// servicePackage is built when --sessiond is not given.
const servicePackage = "github.com/sessiond/sessiond/cmd/sessiond"

func newStage(ctx context.Context, c config, p *progress) (s *stage, err error) {
	s = &stage{config: c, progress: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	dir, err := os.MkdirTemp("", "sessionbench-")
	if err != nil {
		return s, fmt.Errorf("make a directory: %w", err)
	}
	s.later(func() error { return os.RemoveAll(dir) })

	s.keysFile = filepath.Join(dir, "keys.json")
	if err := writeKeys(s.keysFile); err != nil {
		return s, err
	}
	if s.keys, err = readKeys(s.keysFile); err != nil {
		return s, err
	}
	for _, alg := range c.Algorithms {
		if _, ok := s.keys[alg]; !ok {
			return s, fmt.Errorf("--algorithms: %q is none of EdDSA, ES256, HS256", alg)
		}
	}
	if s.program = c.sessiond; s.program == "" {
		s.program = filepath.Join(dir, "sessiond")
		s.say("building %s", servicePackage)
		if err := command(ctx, nil, "go", "build", "-o", s.program, servicePackage); err != nil {
			return s, fmt.Errorf("%w; or name the program with --sessiond", err)
		}
	}
	if s.space, err = openSpace(c.redisURL); err != nil {
		return s, err
	}
	s.later(func() error { return s.space.close(context.WithoutCancel(ctx)) })
	if err := s.makeDatabase(ctx); err != nil {
		return s, err
	}
	return s, command(ctx, []string{"SESSIOND_DATABASE_URL=" + s.databaseURL}, s.program, "migrate")
}

// later has something undone when the stage is closed.
func (s *stage) later(undo func() error) { s.undo = append(s.undo, undo) }

// close undoes everything, the last first.
func (s *stage) close() error {
	var problems []error
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		problems = append(problems, s.undo[last]())
		s.undo = s.undo[:last]
	}
	return errors.Join(problems...)
}

// scope undoes what f had undone later, when f returns.
func (s *stage) scope(f func(inner *stage) error) error {
	inner := *s
	inner.undo = nil
	return errors.Join(f(&inner), inner.close())
}

func command(ctx context.Context, settings []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: go, or the program to measure
	cmd.Env = append(environment(), settings...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return nil
}

// makeDatabase makes a database of our own on the server.
func (s *stage) makeDatabase(ctx context.Context) error {
	u, err := url.Parse(s.config.databaseURL)
	if err != nil {
		return errors.New("--database-url: not a URL") // the error may quote the password
	}
	name := "sessionbench_" + strings.ToLower(rand.Text())
	if err := s.administer(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	s.later(func() error {
		return s.administer(context.WithoutCancel(ctx), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})
	u.Path = "/" + name
	s.databaseURL = u.String()
	return nil
}

// administer runs a statement on the server that was given.
func (s *stage) administer(ctx context.Context, statement string) error {
	server, err := sql.Open("postgres", s.config.databaseURL)
	if err != nil {
		return errors.New("--database-url: cannot be read")
	}
	defer server.Close() //nolint:errcheck // the statement says whether it was done
	if _, err := server.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// service starts `sessiond serve`, which ends with the stage.
func (s *stage) service(ctx context.Context, redisURL, prefix string) (*process, error) {
	p, err := s.startService(ctx, redisURL, prefix)
	if err != nil {
		return nil, err
	}
	s.later(p.stop)
	return p, nil
}

// baseline starts a baseline, which ends with the stage.
func (s *stage) baseline(ctx context.Context, name string) (*process, error) {
	p, err := s.startBaseline(ctx, name)
	if err != nil {
		return nil, err
	}
	s.later(p.stop)
	return p, nil
}

// claimed is a space of its own in a database that was empty, for as long as the stage.
func (s *stage) claimed(ctx context.Context) (*space, error) {
	sp, err := s.space.claimSpace(ctx)
	if err != nil {
		return nil, err
	}
	s.later(func() error { return sp.close(context.WithoutCancel(ctx)) })
	return sp, nil
}
