package monitor_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/cmd/internal/monitor"
)

// As a program of its own it says who it is and with which settings it runs.
func TestMain(m *testing.M) {
	if os.Getenv("MONITOR_TEST_PROGRAM") == "" {
		os.Exit(m.Run())
	}
	fmt.Println("begun", os.Getpid())
	monitor.WakeSeldom()
	fmt.Println("goes on", os.Getpid(), os.Getenv(monitor.Variable), os.Args[1:])
}

func TestWakeSeldom(t *testing.T) {
	for _, c := range []struct {
		name, set, want string
		starts          int
	}{
		{"nothing set", "", "schedtrace=2147483647", 2},
		{"another setting", "http2server=0", "http2server=0,schedtrace=2147483647", 2},
		{"a trace that was asked for", "schedtrace=100000", "schedtrace=100000", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "serve", "--addr=:0")
			cmd.Env = append(os.Environ(), "MONITOR_TEST_PROGRAM=yes", monitor.Variable+"="+c.set)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Repeat(fmt.Sprintln("begun", cmd.Process.Pid), c.starts) +
				fmt.Sprintln("goes on", cmd.Process.Pid, c.want, "[serve --addr=:0]")
			if string(out) != want {
				t.Errorf("printed\n%swant\n%s", out, want)
			}
		})
	}
}
