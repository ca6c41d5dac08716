package app

import (
	"context"
	"fmt"
	"io"

	"github.com/sessiond/sessiond/identity/hashing"
)

const usage = `sessiond signs users in, tracks their sessions, and revokes them at once.

  sessiond dev       try it without installing anything: SQLite and an in-process Redis
  sessiond serve     run in production, with PostgreSQL and Redis
  sessiond migrate   apply the database migrations and exit
  sessiond keys      create, list and rotate the signing keys of serve
  sessiond clients   let a client introspect tokens
  sessiond import    add users with their password hashes from CSV or JSON lines
  sessiond doctor    check a configuration against the real servers

Every setting is a flag or an environment variable: --redis-url or SESSIOND_REDIS_URL.
"sessiond VERB -h" lists the settings of a verb.
`

const serveVerb = "serve"

// lookupEnv looks up an environment variable, as [os.LookupEnv] does.
type lookupEnv func(string) (string, bool)

// Run runs the verb that args start with, and returns when it has finished or ctx is done.
func Run(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) error {
	verb := "help"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "dev":
		return runDev(ctx, args, env, stdout, stderr)
	case serveVerb:
		return runServe(ctx, args, env, stdout, stderr)
	case "migrate":
		return runMigrate(ctx, args, env, stdout, stderr)
	case "keys":
		return runKeys(args, stdout, stderr)
	case "clients":
		return runClients(args, stdout, stderr)
	case "import":
		return runImport(ctx, args, env, stdout, stderr)
	case "doctor":
		return runDoctor(ctx, args, env, stdout, stderr)
	case workerVerb:
		return hashing.RunWorker()
	case "help", "-h", "--help", "-help":
		_, err := io.WriteString(stdout, usage)
		return err
	default:
		return fmt.Errorf("unknown verb %q; sessiond help lists the verbs", verb)
	}
}
