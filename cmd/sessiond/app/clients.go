package app

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/sessiond/sessiond/api"
)

// clientID matches a valid client id.
var clientID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// runClients adds a client that may introspect tokens, and prints its secret once. The clients file
// contains only a hash of the secret.
func runClients(args []string, stdout, stderr io.Writer) (err error) {
	if len(args) == 0 || args[0] != "add" {
		return errors.New("usage: sessiond clients add --file FILE --id ID; it adds a client that may introspect tokens, and prints its secret")
	}
	f := newFlags("clients add", stderr)
	path := f.String("file", "", "path of the clients file, which is also the value of 'sessiond serve --clients-file'; it is created if it does not exist")
	id := f.String("id", "", "id of the new client: 1 to 64 letters, digits, dots, dashes or underscores")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if *path == "" || !clientID.MatchString(*id) {
		return errors.New("--file FILE and --id ID are required; an id has 1 to 64 letters, digits, dots, dashes or underscores")
	}
	clients, err := readClients(*path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, taken := clients[*id]; taken {
		return fmt.Errorf("%s already has a client %q; to create a new secret, first remove the client's line", *path, *id)
	}
	secret := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	file, err := os.OpenFile(*path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := fmt.Fprintf(file, "%s:%s\n", *id, hex.EncodeToString(sum[:])); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, secret)
	return err
}

// readClients reads a clients file. Each line is CLIENT-ID:SHA256-HEX with the hash of the client's
// secret.
func readClients(path string) (api.Clients, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, err
	}
	clients := api.Clients{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, text, _ := strings.Cut(line, ":")
		sum, err := hex.DecodeString(text)
		if _, twice := clients[id]; err != nil || len(sum) != sha256.Size || !clientID.MatchString(id) || twice {
			return nil, fmt.Errorf("line %d: want CLIENT-ID:SHA256-HEX with a unique id", n)
		}
		clients[id] = [sha256.Size]byte(sum)
	}
	return clients, nil
}
