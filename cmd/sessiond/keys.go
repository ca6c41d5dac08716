package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sessiond/sessiond/session"
)

// runKeys makes signing key files.
func runKeys(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] != "new" {
		return errors.New("sessiond keys new --out FILE makes a signing key file")
	}
	f := newFlags("keys new", stderr)
	out := f.String("out", "", "file to make; it must not exist")
	alg := f.String("alg", session.AlgEdDSA, "EdDSA, ES256 or HS256")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if *out == "" {
		return errors.New("--out is required")
	}
	if err := writeKey(*out, *alg); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "%s holds a new %s key. Keep it secret: who has it can sign in as anybody.\n", *out, *alg)
	return err
}

// writeKey makes a key file that only its owner can read, and never overwrites one.
func writeKey(path, alg string) (err error) {
	key, err := session.GenerateKey(alg)
	if err != nil {
		return err
	}
	set, err := session.NewKeySet(key)
	if err != nil {
		return err
	}
	data, err := set.PrivateJSON()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(data); err != nil {
		return err
	}
	return file.Sync()
}

// readKeys reads a key file that can sign.
func readKeys(path string) (*session.KeySet, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, err
	}
	set, err := session.ParseKeySet(data)
	if err != nil {
		return nil, err
	}
	if !set.CanSign() {
		return nil, errors.New("the first key has no private part to sign with")
	}
	return set, nil
}
