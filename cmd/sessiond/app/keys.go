package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
)

const keysUsage = `sessiond keys new      --out FILE [--alg EdDSA]   make a key file with one key that signs
sessiond keys add      --file FILE [--alg EdDSA]  add a key that is published and does not sign yet
sessiond keys list     --file FILE
sessiond keys activate --file FILE --kid ID       let it sign; the one that signed so far is retired
sessiond keys retire   --file FILE --kid ID       give up a published key
`

// runKeys makes and changes signing key files. A running serve picks a change
// up within a second.
func runKeys(args []string, stdout, stderr io.Writer) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	f := newFlags("keys "+verb, stderr)
	var path, alg, kid string
	var early bool
	switch verb {
	case "new":
		f.StringVar(&path, "out", "", "file to make; it must not exist")
		f.StringVar(&alg, "alg", session.AlgEdDSA, "EdDSA, ES256 or HS256")
	case "add":
		f.StringVar(&path, "file", "", "key file to change")
		f.StringVar(&alg, "alg", session.AlgEdDSA, "EdDSA, ES256 or HS256")
	case "list":
		f.StringVar(&path, "file", "", "key file to show")
	case "activate":
		f.StringVar(&path, "file", "", "key file to change")
		f.StringVar(&kid, "kid", "", "id of the key that is to sign")
		f.BoolVar(&early, "now", false, "do not wait until everybody has had time to read the key")
	case "retire":
		f.StringVar(&path, "file", "", "key file to change")
		f.StringVar(&kid, "kid", "", "id of the key to give up")
	default:
		_, err := io.WriteString(stdout, keysUsage)
		return err
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if path == "" {
		return errors.New("the key file is required: --out FILE for new, --file FILE otherwise")
	}
	switch verb {
	case "new":
		if err := writeKey(path, alg); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "%s holds a new %s key. Keep it secret: who has it can sign in as anybody.\n", path, alg)
		return err
	case "list":
		return listKeys(path, stdout)
	case "add":
		return changeKeys(path, stdout, func(keys []session.Key) ([]session.Key, error) { return addKey(keys, alg) })
	case "activate":
		return changeKeys(path, stdout, func(keys []session.Key) ([]session.Key, error) { return activateKey(keys, kid, early) })
	default:
		return changeKeys(path, stdout, func(keys []session.Key) ([]session.Key, error) { return retireKey(keys, kid) })
	}
}

// newKey makes a key that says when it was made.
func newKey(alg string) (session.Key, error) {
	key, err := session.GenerateKey(alg)
	key.CreatedAt = time.Now().UTC()
	return key, err
}

// writeKey makes a key file with one key, and never overwrites one.
func writeKey(path, alg string) error {
	key, err := newKey(alg)
	if err != nil {
		return err
	}
	set, err := session.NewKeySet(key)
	if err != nil {
		return err
	}
	return writeKeys(path, set)
}

// writeKeys makes a file that only its owner can read.
func writeKeys(path string, set *session.KeySet) (err error) {
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

// changeKeys replaces a key file at once: a reader sees the old one or the new one.
func changeKeys(path string, stdout io.Writer, change func([]session.Key) ([]session.Key, error)) error {
	set, err := readKeys(path)
	if err != nil {
		return err
	}
	keys, err := change(set.Keys())
	if err != nil {
		return err
	}
	if set, err = session.NewKeySet(keys...); err != nil {
		return err
	}
	next := path + ".new"
	if err := writeKeys(next, set); err != nil {
		return fmt.Errorf("is another change under way? %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return listKeys(path, stdout)
}

func listKeys(path string, stdout io.Writer) error {
	set, err := readKeys(path)
	if err != nil {
		return err
	}
	for _, k := range set.Keys() {
		line := fmt.Sprintf("%s  %-5s  %-9s", k.ID, k.Alg, k.Status)
		if !k.CreatedAt.IsZero() {
			line += "  made " + k.CreatedAt.Format(time.RFC3339)
		}
		if !k.RetiredAt.IsZero() {
			line += "  retired " + k.RetiredAt.Format(time.RFC3339)
		}
		if _, err := fmt.Fprintln(stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// addKey appends a key that is published, and drops those that verify nothing
// any more.
func addKey(keys []session.Key, alg string) ([]session.Key, error) {
	key, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	key.Status = session.KeyPublished
	now := time.Now()
	keys = slices.DeleteFunc(keys, func(k session.Key) bool { return !k.Usable(now) })
	return append(keys, key), nil
}

// publishFirst is how long a key is published before it signs: others keep our
// keys for as long as /.well-known/jwks.json allows.
const publishFirst = 6 * time.Minute

func activateKey(keys []session.Key, kid string, early bool) ([]session.Key, error) {
	next, err := findKey(keys, kid)
	if err != nil {
		return nil, err
	}
	if age := time.Since(next.CreatedAt); !early && age < publishFirst {
		return nil, fmt.Errorf("key %s was made %v ago; others may not have read it yet, so that its tokens would be refused: wait until it is %v old, or say --now",
			kid, age.Round(time.Second), publishFirst)
	}
	for i := range keys {
		if keys[i].Status == session.KeyActive && keys[i].ID != kid {
			retire(&keys[i])
		}
	}
	next.Status, next.RetiredAt = session.KeyActive, time.Time{}
	return keys, nil
}

func retireKey(keys []session.Key, kid string) ([]session.Key, error) {
	key, err := findKey(keys, kid)
	if err != nil {
		return nil, err
	}
	if key.Status == session.KeyActive {
		return nil, fmt.Errorf("key %s signs; activate another one, which retires it", kid)
	}
	retire(key)
	return keys, nil
}

func retire(k *session.Key) {
	if k.Status != session.KeyRetired {
		k.Status, k.RetiredAt = session.KeyRetired, time.Now().UTC()
	}
}

func findKey(keys []session.Key, kid string) (*session.Key, error) {
	i := slices.IndexFunc(keys, func(k session.Key) bool { return k.ID == kid })
	if i < 0 {
		return nil, fmt.Errorf("--kid: the file has no key %q; sessiond keys list shows them", kid)
	}
	return &keys[i], nil
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
		return nil, errors.New("no active key with its private part to sign with")
	}
	return set, nil
}

// watchKeys is [session.WatchKeys] for a service, which signs.
func watchKeys(ctx context.Context, path string, log *slog.Logger) (*session.Keyring, error) {
	if _, err := readKeys(path); err != nil {
		return nil, err
	}
	return session.WatchKeys(ctx, path, log)
}
