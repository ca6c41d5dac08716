package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
)

const cgroups = "/sys/fs/cgroup"

// Group is a control group, cgroups(7). Its processes may together use a limited share of the CPU, as
// in a container.
type Group struct {
	Wrap []string // a command that begins with these words runs in the group
	dir  string
	v2   bool
}

// NewGroup creates a group without a limit. It is removed when the current Scope ends. It returns an
// error if this program may not create groups.
func (s *Stage) NewGroup() (*Group, error) {
	g := &Group{dir: filepath.Join(cgroups, "cpu", "sessionbench-"+rand.Text())}
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil { // this file exists only in version 2 of cgroups
		g.v2, g.dir = true, filepath.Join(cgroups, filepath.Base(g.dir))
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil { //nolint:gosec // G301: the kernel uses this mode for control groups
		return nil, err
	}
	s.Later(func() error { return os.Remove(g.dir) })
	g.Wrap = []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}
	return g, nil
}

// Limit allows the group that many CPU cores, or all if cores is 0. The group may use its share at any
// time within each period, and then waits for the next one. The kernel allows no share below 1 ms.
func (g *Group) Limit(cores float64, period time.Duration) error {
	quota, of := "-1", strconv.FormatInt(period.Microseconds(), 10)
	if cores > 0 {
		quota = strconv.FormatInt(int64(cores*float64(period.Microseconds())), 10)
	}
	if !g.v2 {
		return errors.Join(g.set("cpu.cfs_quota_us", "-1"), g.set("cpu.cfs_period_us", of), g.set("cpu.cfs_quota_us", quota))
	}
	if cores == 0 {
		quota = "max"
	}
	return g.set("cpu.max", quota+" "+of)
}

// Idle lets the group use only CPU time that nothing else wants.
func (g *Group) Idle() error { return g.set("cpu.idle", "1") }

func (g *Group) set(file, value string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0o644) //nolint:gosec // G306: the kernel uses this mode for such files
}

// Spin keeps all cores busy at the lowest priority until the current Scope ends. Otherwise a core would be faster
// while its neighbour is idle, and a second replica would seem to make the first one slower.
func (s *Stage) Spin(ctx context.Context) error {
	g, err := s.NewGroup()
	if err != nil {
		return err
	}
	for range runtime.NumCPU() {
		ctx, stop := context.WithCancel(ctx)
		cmd := exec.CommandContext(ctx, g.Wrap[0], append(slices.Clone(g.Wrap[1:]), "sh", "-c", "while :; do :; done")...) //nolint:gosec // G204: a constant command
		must.Do(cmd.Start())
		s.Later(func() error {
			stop()
			_ = cmd.Wait() // it was killed
			return nil
		})
	}
	return g.Idle()
}

// LimitCPU creates a group that may use that many CPU cores, and returns its Wrap.
func (s *Stage) LimitCPU(cores float64) (wrap []string, err error) {
	g, err := s.NewGroup()
	if err != nil {
		return nil, err
	}
	return g.Wrap, g.Limit(cores, 100*time.Millisecond)
}
