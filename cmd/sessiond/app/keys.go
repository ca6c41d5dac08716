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

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/session"
)

// keysCommand creates and changes signing key files. A running `sessiond serve` reads a changed file
// within a second.
func keysCommand(env lookupEnv) *cobra.Command {
	var path, alg, kid string
	var secret, entry, account string
	var early, ifMissing bool
	var maxAge time.Duration
	change := func(f func([]session.Key) ([]session.Key, error)) func(*cobra.Command) error {
		return func(c *cobra.Command) error { return changeKeys(path, c.OutOrStdout(), f) }
	}
	keys := &cobra.Command{
		Use:     "keys",
		GroupID: prepareGroup,
		Short:   "Create, list and rotate the signing keys of serve",
		Long:    "Create, list and rotate the signing keys of serve, which reads a changed file within a second.",
		Example: "  sessiond keys new --out keys.json\n  sessiond keys list --file keys.json",
	}
	for _, v := range []struct {
		use, short, example string
		flags               []string
		run                 func(c *cobra.Command) error
	}{
		{
			"new", "Create a key file with one signing key", "--out keys.json",
			[]string{"out", "alg", "if-missing"},
			func(c *cobra.Command) error {
				if _, err := os.Stat(path); ifMissing && err == nil {
					return nil
				}
				if err := writeKey(path, alg); err != nil {
					return err
				}
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s contains a new %s key. Keep it secret: with it, anybody can sign tokens for any user.\n", path, alg)
				return err
			},
		},
		{
			"add", "Add a key that is published but does not sign yet", "--file keys.json",
			[]string{"file", "alg"},
			change(func(keys []session.Key) ([]session.Key, error) { return addKey(keys, alg) }),
		},
		{
			"list", "Print the keys and their status", "--file keys.json",
			[]string{"file"},
			func(c *cobra.Command) error { return listKeys(path, c.OutOrStdout()) },
		},
		{
			"activate", "Make a published key sign, and retire the one that signed", "--file keys.json --kid ID",
			[]string{"file", "kid", "now"},
			change(func(keys []session.Key) ([]session.Key, error) { return activateKey(keys, kid, early) }),
		},
		{
			"retire", "Retire a published key", "--file keys.json --kid ID",
			[]string{"file", "kid"},
			change(func(keys []session.Key) ([]session.Key, error) { return retireKey(keys, kid) }),
		},
		{
			"revoke", "Drop a key that has leaked: its tokens are refused at once", "--file keys.json --kid ID",
			[]string{"file", "kid"},
			change(func(keys []session.Key) ([]session.Key, error) { return revokeKey(keys, kid) }),
		},
		{
			"rotate", "Add a key if the signing key is old, or activate the one that was added", "--file keys.json --max-age 720h",
			[]string{"file", "max-age", "kubernetes-secret", "secret-key", "service-account"},
			func(c *cobra.Command) error {
				step := func(keys []session.Key) ([]session.Key, error) { return rotateKeys(keys, maxAge) }
				if secret == "" {
					return change(step)(c)
				}
				s, err := openKubernetesSecret(account, secret, entry, env)
				if err != nil {
					return err
				}
				return changeSecretKeys(c.Context(), s, c.OutOrStdout(), step)
			},
		},
	} {
		c := &cobra.Command{
			Use: v.use, Short: v.short, Example: "  sessiond keys " + v.use + " " + v.example, Args: noArguments,
			RunE: func(c *cobra.Command, _ []string) error {
				if path == "" && secret == "" {
					return fmt.Errorf("--%s FILE is required", v.flags[0])
				}
				return v.run(c)
			},
		}
		c.Flags().SortFlags = false
		for _, name := range v.flags {
			switch name {
			case "out":
				c.Flags().StringVar(&path, name, "", "signing key `FILE` to create; it must not exist yet")
			case "if-missing":
				c.Flags().BoolVar(&ifMissing, name, false, "do nothing if the file exists, for jobs that run again")
			case "file":
				c.Flags().StringVar(&path, name, "", "signing key `FILE`")
			case "alg":
				c.Flags().StringVar(&alg, name, session.AlgEdDSA, "signature `ALGORITHM` of the new key: EdDSA, ES256 or HS256")
				complete(c, name, session.AlgEdDSA, session.AlgES256, session.AlgHS256)
			case "kid":
				c.Flags().StringVar(&kid, name, "", "`ID` of the key, as sessiond keys list prints it")
			case "max-age":
				c.Flags().DurationVar(&maxAge, name, 720*time.Hour, "age of the signing key from which a new one is added")
			case "kubernetes-secret":
				c.Flags().StringVar(&secret, name, "", "`NAME` of the Secret in this pod's namespace that holds the keys, instead of --file")
				c.MarkFlagsMutuallyExclusive("file", name)
			case "secret-key":
				c.Flags().StringVar(&entry, name, "signing-keys", "`KEY` of the Secret that holds the signing key file")
			case "service-account":
				c.Flags().StringVar(&account, name, "/var/run/secrets/kubernetes.io/serviceaccount", "`DIRECTORY` with the pod's token for the Kubernetes API")
			case "now":
				c.Flags().BoolVar(&early, name, false, "activate the key at once, although verifiers that have not read it yet will refuse its tokens")
			}
		}
		keys.AddCommand(c)
	}
	onlyVerbs(keys)
	return keys
}

// newKey generates a key that records the time of its creation.
func newKey(alg string) (session.Key, error) {
	key, err := session.GenerateKey(alg)
	key.CreatedAt = time.Now().UTC()
	return key, err
}

// writeKey creates a key file with one signing key. It returns an error if the file exists.
func writeKey(path, alg string) error {
	key, err := newKey(alg)
	if err != nil {
		return err
	}
	return writeKeys(path, key)
}

// encodeKeys returns the content of a key file.
func encodeKeys(keys ...session.Key) ([]byte, error) {
	set, err := session.NewKeySet(keys...)
	if err != nil {
		return nil, err
	}
	return set.PrivateJSON()
}

// writeKeys creates a key file that only its owner can read.
func writeKeys(path string, keys ...session.Key) (err error) {
	data, err := encodeKeys(keys...)
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

// changeKeys applies change to a key file. A reader sees the old content or the new, never a mix.
func changeKeys(path string, stdout io.Writer, change func([]session.Key) ([]session.Key, error)) error {
	set, err := readKeys(path)
	if err != nil {
		return err
	}
	before := states(set.Keys())
	keys, err := change(set.Keys())
	if err != nil {
		return err
	}
	if slices.Equal(states(keys), before) {
		return listKeys(path, stdout) // the file keeps its owner and its mode
	}
	next := path + ".new"
	if err := writeKeys(next, keys...); errors.Is(err, os.ErrExist) {
		return fmt.Errorf("another sessiond keys command may be changing this key file: %w", err)
	} else if err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return listKeys(path, stdout)
}

// states returns what a change of a key file may change.
func states(keys []session.Key) (list []string) {
	for _, k := range keys {
		list = append(list, fmt.Sprint(k.ID, k.Status, k.CreatedAt, k.RetiredAt))
	}
	return list
}

// changeSecretKeys applies change to a key file in a Kubernetes Secret.
func changeSecretKeys(ctx context.Context, s *kubernetesSecret, stdout io.Writer, change func([]session.Key) ([]session.Key, error)) error {
	var keys []session.Key
	err := s.change(ctx, func(data []byte) ([]byte, error) {
		set, err := parseKeys(data)
		if err != nil {
			return nil, err
		}
		if keys, err = change(set.Keys()); err != nil {
			return nil, err
		}
		return encodeKeys(keys...)
	})
	if err != nil {
		return err
	}
	return printKeys(keys, stdout)
}

func listKeys(path string, stdout io.Writer) error {
	set, err := readKeys(path)
	if err != nil {
		return err
	}
	return printKeys(set.Keys(), stdout)
}

func printKeys(keys []session.Key, stdout io.Writer) error {
	for _, k := range keys {
		line := fmt.Sprintf("%s  %-5s  %-9s", k.ID, k.Alg, k.Status)
		if !k.CreatedAt.IsZero() {
			line += "  created " + k.CreatedAt.Format(time.RFC3339)
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

// addKey adds a key that does not sign yet. It removes old keys whose tokens have all expired.
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

// publishFirst is the time from the creation of a key until it may sign. Until then, a verifier may
// still use a list of keys that it cached before, as the response of /.well-known/jwks.json allows.
const publishFirst = 6 * time.Minute

func activateKey(keys []session.Key, kid string, early bool) ([]session.Key, error) {
	next, err := findKey(keys, kid)
	if err != nil {
		return nil, err
	}
	if age := time.Since(next.CreatedAt); !early && age < publishFirst {
		return nil, fmt.Errorf("key %s was created %v ago, and verifiers that have not read it yet would refuse its tokens: wait until it is %v old, or use --now",
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
		return nil, fmt.Errorf("key %s is the signing key; activate another key, which retires this one", kid)
	}
	retire(key)
	return keys, nil
}

// revokeKey removes a key, so that no token that it signed is accepted any more. If it was the signing key,
// the newest published key signs from now on, or a new one. Clients get new tokens by a refresh.
func revokeKey(keys []session.Key, kid string) ([]session.Key, error) {
	leaked, err := findKey(keys, kid)
	if err != nil {
		return nil, err
	}
	signed, alg := leaked.Status == session.KeyActive, leaked.Alg // leaked points into keys
	keys = slices.DeleteFunc(keys, func(k session.Key) bool { return k.ID == kid })
	if !signed {
		return keys, nil
	}
	var next *session.Key
	for i := range keys {
		if k := &keys[i]; k.Status == session.KeyPublished && (next == nil || k.CreatedAt.After(next.CreatedAt)) {
			next = k
		}
	}
	if next == nil {
		key, err := newKey(alg)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
		next = &keys[len(keys)-1]
	}
	next.Status = session.KeyActive
	return keys, nil
}

// rotateKeys does the step of a rotation that is due. If a key was published long enough ago, it signs from
// now on. If none is published and the signing key is older than maxAge, a key is added. Otherwise
// rotateKeys changes nothing.
func rotateKeys(keys []session.Key, maxAge time.Duration) ([]session.Key, error) {
	var next *session.Key
	var alg string
	var age time.Duration // of the signing key
	for i := range keys {
		switch k := &keys[i]; k.Status {
		case session.KeyActive:
			alg, age = k.Alg, time.Since(k.CreatedAt)
		case session.KeyPublished:
			if next == nil || k.CreatedAt.After(next.CreatedAt) {
				next = k
			}
		case session.KeyRetired:
		}
	}
	if next != nil && time.Since(next.CreatedAt) > age {
		next = nil // the signing key is newer
	}
	switch {
	case next != nil && time.Since(next.CreatedAt) >= publishFirst:
		return activateKey(keys, next.ID, false)
	case next == nil && age > maxAge:
		return addKey(keys, alg)
	}
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
		return nil, fmt.Errorf("--kid: the file has no key %q; sessiond keys list prints the keys", kid)
	}
	return &keys[i], nil
}

// readKeys reads a key file. It returns an error if the file has no key that can sign.
func readKeys(path string) (*session.KeySet, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, err
	}
	return parseKeys(data)
}

// parseKeys reads the content of a key file. It returns an error if no key can sign.
func parseKeys(data []byte) (*session.KeySet, error) {
	set, err := session.ParseKeySet(data)
	if err != nil {
		return nil, err
	}
	if !set.CanSign() {
		return nil, errors.New("the file has no active key with a private part; serve needs one to sign tokens")
	}
	return set, nil
}

// watchKeys calls [session.WatchKeys], but returns an error if the file has no key that can sign.
func watchKeys(ctx context.Context, path string, log *slog.Logger) (*session.Keyring, error) {
	if _, err := readKeys(path); err != nil {
		return nil, err
	}
	return session.WatchKeys(ctx, path, log)
}
