package audit

import "context"

// These are the actors of an [Act]. Without an act, the actor of an event is "user" or "system", or empty if
// nobody is known.
const (
	ByAdministrator = "administrator" // a user with the role admin
	ByClient        = "client"        // a machine client with the scope admin:write
	ByCommand       = "command"       // the command line
)

// Act says who does something to the account of another, from where, and why.
type Act struct {
	Actor   string // ByAdministrator, ByClient or ByCommand
	ActorID string // the id of the user or client, or the name of the operating system's user
	Address string // the IP address of the client; empty for a command
	Reason  string // free text; may be empty
}

type actKey struct{}

// With returns a context for the act. All events that a store records with this context say so.
func With(ctx context.Context, a Act) context.Context { return context.WithValue(ctx, actKey{}, a) }

// Of returns the act of a context. It reports false if users act on their own accounts.
func Of(ctx context.Context) (Act, bool) {
	a, ok := ctx.Value(actKey{}).(Act)
	return a, ok
}
