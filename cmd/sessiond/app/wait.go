package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sessiond/sessiond/api"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
)

// openInterval is the pause between two attempts to open the database.
const openInterval = time.Second

// awaitDatabase calls open until the database answers. Meanwhile a server answers at the listener public:
// /livez says that the replica lives, everything else returns 503. If an error of open remains until
// somebody changes the configuration, awaitDatabase returns the error. If ctx is done, it returns nil.
func awaitDatabase(ctx context.Context, public net.Listener, log *slog.Logger, open func() error) error {
	err := open()
	if !canMend(err) {
		return err
	}
	log.Warn("waiting for the database", "addr", public.Addr().String(), "error", err)
	server := api.NewServer(api.Waiting(), log)
	server.Drain() // otherwise the end of the wait could cut a request
	lent := lentListener{public.(*net.TCPListener)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lent) }()
	for canMend(err) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(openInterval):
			err = open()
		}
	}
	if ctx.Err() != nil {
		err = nil
	} else if err == nil {
		log.Info("the database answers")
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err = errors.Join(err, server.Shutdown(ending))
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return errors.Join(err, lent.SetDeadline(time.Time{}))
}

// canMend reports whether the database may answer later although nobody changes the configuration.
func canMend(err error) bool {
	return errors.Is(err, session.ErrUnavailable) && !sqlstore.Misconfigured(err)
}

// lentListener is a listener for a server that must not close the socket. Close only ends Accept.
type lentListener struct{ *net.TCPListener }

func (l lentListener) Close() error { return l.SetDeadline(time.Unix(1, 0)) }
