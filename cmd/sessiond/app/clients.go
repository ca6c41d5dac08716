package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/sqlstore"
)

func clientsCommand(env lookupEnv) *cobra.Command {
	c := &cobra.Command{
		Use:     "clients",
		GroupID: operateGroup,
		Short:   "Let machine clients introspect tokens or administer accounts",
		Long: `Machine clients are programs that introspect tokens or administer accounts, by HTTP Basic. They are in the
database, and replicas see a change within two seconds.`,
		Example: "  sessiond clients add --id orders --scope introspect\n  sessiond clients list",
	}
	c.AddCommand(addClientCommand(env), listClientsCommand(env), rotateClientCommand(env), revokeClientCommand(env))
	onlyVerbs(c)
	return c
}

func addClientCommand(env lookupEnv) *cobra.Command {
	var path, id string
	var scopes []string
	return operatorCommand(env, &cobra.Command{
		Use:   "add",
		Short: "Add a client, and print its secret once",
		Long: `Add a client, and print its secret once. Only a hash of it is stored. With --file, the client is added to
a file for serve --clients-file instead of the database.`,
		Example: "  sessiond clients add --id orders --scope introspect\n  sessiond clients add --id console --scope admin:read,admin:write\n" +
			"  sessiond clients add --id orders --file clients.txt",
	}, func(c *cobra.Command) {
		c.Flags().StringVar(&path, "file", "", "clients `FILE` to add the client to; it is created if it does not exist")
		c.Flags().StringVar(&id, "id", "", "`ID` of the new client: 1 to 64 letters, digits, dots, dashes or underscores")
		c.Flags().StringSliceVar(&scopes, "scope", []string{string(clients.Introspect)}, "comma-separated `SCOPES`: introspect, admin:read, admin:write")
	}, func(ctx context.Context, o *operator) error {
		if err := clients.CheckID(id); err != nil {
			return fmt.Errorf("--id ID is required; %w", err)
		}
		granted, err := clients.ParseScopes(scopes)
		if err != nil {
			return fmt.Errorf("--scope: %w", err)
		}
		if path != "" {
			return addClientToFile(path, id, granted, o.out)
		}
		return o.withDatabase(ctx, func(ctx context.Context, db *sqlstore.DB) error {
			secret := clients.NewSecret()
			err := db.Clients().AddClient(ctx, clients.Client{ID: id, Scopes: granted, SecretHash: clients.HashOf(secret), CreatedAt: o.now()})
			return o.printSecret(id, secret, err)
		})
	})
}

// printSecret prints the secret of a client, unless err says that it was not stored.
func (o *operator) printSecret(id, secret string, err error) error {
	if err != nil {
		return err
	}
	return o.print(map[string]string{"id": id, "secret": secret}, func(w io.Writer) { fmt.Fprintln(w, secret) })
}

func listClientsCommand(env lookupEnv) *cobra.Command {
	return operatorCommand(env, &cobra.Command{
		Use:     "list",
		Short:   "List the clients in the database",
		Example: "  sessiond clients list --json",
	}, nil, func(ctx context.Context, o *operator) error {
		return o.withDatabase(ctx, func(ctx context.Context, db *sqlstore.DB) error {
			list, err := db.Clients().Clients(ctx)
			if err != nil {
				return err
			}
			type item struct {
				ID        string          `json:"id"`
				Scopes    []clients.Scope `json:"scopes"`
				CreatedAt time.Time       `json:"created_at"`
				RotatedAt *time.Time      `json:"rotated_at"`
				RevokedAt *time.Time      `json:"revoked_at"`
			}
			t := table{columns: []string{"ID", "SCOPES", "CREATED", "ROTATED", "REVOKED"}}
			for _, c := range list {
				t.add(item{c.ID, c.Scopes, c.CreatedAt, orNull(c.RotatedAt), orNull(c.RevokedAt)},
					c.ID, strings.Trim(fmt.Sprint(c.Scopes), "[]"), shown(c.CreatedAt), shown(c.RotatedAt), shown(c.RevokedAt))
			}
			return o.printTable(&t)
		})
	})
}

func rotateClientCommand(env lookupEnv) *cobra.Command {
	var id string
	var overlap time.Duration
	return operatorCommand(env, &cobra.Command{
		Use:     "rotate",
		Short:   "Give a client another secret, and print it once",
		Long:    "Give a client another secret, and print it once. The previous secret stays valid for --overlap.",
		Example: "  sessiond clients rotate --id orders --overlap 1h",
	}, func(c *cobra.Command) {
		c.Flags().StringVar(&id, "id", "", "`ID` of the client")
		c.Flags().DurationVar(&overlap, "overlap", 24*time.Hour, "how long the previous secret stays valid; 0: not at all")
	}, func(ctx context.Context, o *operator) error {
		if id == "" || overlap < 0 {
			return errors.New("--id ID is required, and --overlap must not be negative")
		}
		return o.withDatabase(ctx, func(ctx context.Context, db *sqlstore.DB) error {
			secret, now := clients.NewSecret(), o.now()
			err := db.Clients().RotateClient(ctx, id, clients.HashOf(secret), now.Add(overlap), now)
			return o.printSecret(id, secret, err)
		})
	})
}

func revokeClientCommand(env lookupEnv) *cobra.Command {
	var id string
	return operatorCommand(env, &cobra.Command{
		Use:     "revoke",
		Short:   "Refuse a client for ever",
		Example: "  sessiond clients revoke --id orders",
	}, func(c *cobra.Command) {
		c.Flags().StringVar(&id, "id", "", "`ID` of the client")
	}, func(ctx context.Context, o *operator) error {
		if id == "" {
			return errors.New("--id ID is required")
		}
		return o.withDatabase(ctx, func(ctx context.Context, db *sqlstore.DB) error {
			if err := db.Clients().RevokeClient(ctx, id, o.now()); err != nil {
				return err
			}
			return o.print(map[string]string{"revoked": id}, func(w io.Writer) {
				fmt.Fprintf(w, "client %s is revoked; replicas that reach the database refuse it within two seconds\n", id)
			})
		})
	})
}

// addClientToFile adds a client to a clients file, and prints its secret once.
func addClientToFile(path, id string, granted []clients.Scope, stdout io.Writer) (err error) {
	known, err := readClients(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, taken := known[id]; taken {
		return fmt.Errorf("%s already has a client %q; to create a new secret, first remove the client's line", path, id)
	}
	secret := clients.NewSecret()
	hash := clients.HashOf(secret)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	line := id + ":" + hex.EncodeToString(hash[:])
	if !slices.Equal(granted, []clients.Scope{clients.Introspect}) {
		line += ":" + strings.Trim(strings.ReplaceAll(fmt.Sprint(granted), " ", ","), "[]")
	}
	if _, err := fmt.Fprintln(file, line); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, secret)
	return err
}

// readClients reads a clients file. Each line is CLIENT-ID:SHA256-HEX with the hash of the client's secret, or
// CLIENT-ID:SHA256-HEX:SCOPES with comma-separated scopes. Without scopes, the client may introspect tokens.
func readClients(path string) (map[string]clients.Client, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, err
	}
	known := map[string]clients.Client{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, rest, _ := strings.Cut(line, ":")
		text, names, given := strings.Cut(rest, ":")
		if !given {
			names = string(clients.Introspect)
		}
		sum, err := hex.DecodeString(text)
		if _, twice := known[id]; err != nil || len(sum) != len(clients.Hash{}) || clients.CheckID(id) != nil || twice {
			return nil, fmt.Errorf("line %d: want CLIENT-ID:SHA256-HEX or CLIENT-ID:SHA256-HEX:SCOPES with a unique id", n)
		}
		scopes, err := clients.ParseScopes(splitList(names))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		known[id] = clients.Client{ID: id, Scopes: scopes, SecretHash: clients.Hash(sum)}
	}
	return known, nil
}
