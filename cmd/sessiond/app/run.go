package app

import (
	"context"
	"fmt"
	"io"

	"github.com/sessiond/sessiond/identity/hashing"
)

const usage = `sessiond signs people in and ends their sessions at once.

  sessiond dev       try it: SQLite and an in-process Redis, nothing to install
  sessiond serve     production: Postgres and Redis by URL
  sessiond migrate   apply the SQL migrations and exit
  sessiond keys      make, list and rotate the signing keys of serve
  sessiond clients   let a client introspect tokens
  sessiond import    add users with their password hashes from CSV or JSON lines
  sessiond doctor    check a configuration against the real servers

Settings are flags, or environment variables of the same name with the prefix
SESSIOND_ (--redis-url is SESSIOND_REDIS_URL). "sessiond VERB -h" lists them.
`

const serveVerb = "serve"

// lookupEnv is os.LookupEnv, or a test's own environment.
type lookupEnv func(string) (string, bool)

// Run is the whole program. It returns when its verb is done or ctx ends.
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
		return fmt.Errorf("unknown verb %q; sessiond help lists them", verb)
	}
}
