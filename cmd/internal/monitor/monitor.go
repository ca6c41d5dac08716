// Package monitor keeps the monitor of the Go runtime from taking the CPU of a server
// that is neither idle nor busy.
package monitor

import (
	"os"
	"strings"
	"syscall"
)

// Variable is the environment variable that the Go runtime reads its settings from.
const Variable = "GODEBUG"

// seldom traces the scheduler, which keeps the monitor from sleeping; the trace itself
// is due after 24 days. It is a line on standard error.
const seldom = "schedtrace=2147483647"

// WakeSeldom starts the program over, as the same process, with a monitor that wakes
// every 10 ms. Left alone it sleeps when there is nothing to do, and when there is
// something again wakes every 20 µs for a while: at 500 requests a second that takes up
// to 8 % of a core. Call it first in main: it returns in the program that was started,
// and where none can be, which goes on as it is. A trace that was asked for is left alone.
func WakeSeldom() {
	settings := os.Getenv(Variable)
	if strings.Contains(settings, "schedtrace=") {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	if settings != "" {
		settings += ","
	}
	_ = os.Setenv(Variable, settings+seldom)
	_ = syscall.Exec(self, os.Args, os.Environ()) //nolint:gosec // G204: ourselves
}
