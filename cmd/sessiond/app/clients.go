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

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/api"
)

// clientID matches a valid client id.
var clientID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func clientsCommand() *cobra.Command {
	var path, id string
	add := &cobra.Command{
		Use:     "add",
		Short:   "Add a client, and print its secret once",
		Long:    "Add a client that may introspect tokens, and print its secret once. The file contains only a hash of it.",
		Example: "  sessiond clients add --file clients.txt --id orders",
		Args:    noArguments,
		RunE:    func(c *cobra.Command, _ []string) error { return addClient(path, id, c.OutOrStdout()) },
	}
	add.Flags().StringVar(&path, "file", "", "clients `FILE`, which is also the value of serve --clients-file; it is created if it does not exist")
	add.Flags().StringVar(&id, "id", "", "`ID` of the new client: 1 to 64 letters, digits, dots, dashes or underscores")
	clients := &cobra.Command{
		Use:     "clients",
		GroupID: prepareGroup,
		Short:   "Let a client introspect tokens",
		Example: add.Example,
	}
	clients.AddCommand(add)
	onlyVerbs(clients)
	return clients
}

// addClient adds a client that may introspect tokens, and prints its secret once. The clients file
// contains only a hash of the secret.
func addClient(path, id string, stdout io.Writer) (err error) {
	if path == "" || !clientID.MatchString(id) {
		return errors.New("--file FILE and --id ID are required; an id has 1 to 64 letters, digits, dots, dashes or underscores")
	}
	clients, err := readClients(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, taken := clients[id]; taken {
		return fmt.Errorf("%s already has a client %q; to create a new secret, first remove the client's line", path, id)
	}
	secret := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := fmt.Fprintf(file, "%s:%s\n", id, hex.EncodeToString(sum[:])); err != nil {
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
