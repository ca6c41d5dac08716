package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// errNoGroups: this machine has no control groups, or none that we may make.
var errNoGroups = errors.New("no control group can be made here")

// limitCPU makes a control group, cgroups(7), whose processes may use so many cores'
// time together, as a container may. It goes with the stage. It returns what goes before a
// command that is to run in it.
func (s *stage) limitCPU(cores float64) (wrap []string, err error) {
	const mount, period = "/sys/fs/cgroup", 100_000 // µs
	quota := strconv.Itoa(int(cores * period))
	name := "sessionbench-" + rand.Text()
	dir, settings := filepath.Join(mount, "cpu", name), map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": quota}
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		dir, settings = filepath.Join(mount, name), map[string]string{"cpu.max": quota + " " + strconv.Itoa(period)}
	}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // G301: as the kernel makes them
		return nil, fmt.Errorf("%w: %w", errNoGroups, err)
	}
	s.later(func() error { return os.Remove(dir) })
	for file, value := range settings {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644); err != nil { //nolint:gosec // G306: as the kernel made it
			return nil, fmt.Errorf("%w: %w", errNoGroups, err)
		}
	}
	return []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(dir, "cgroup.procs")}, nil
}
