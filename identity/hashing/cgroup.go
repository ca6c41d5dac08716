package hashing

import (
	"iter"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Where the kernel describes control groups, cgroups(7).
const (
	membershipFile = "/proc/self/cgroup"
	cgroupMount    = "/sys/fs/cgroup"
)

// cpuLimit returns how many cores' time this process may use.
func cpuLimit() float64 {
	return min(float64(runtime.NumCPU()), groupLimit(membershipFile, cgroupMount))
}

// groupLimit returns the lowest CPU limit of the control group and those above it; infinite: none.
func groupLimit(membership, mount string) float64 {
	limit := math.Inf(1)
	for dir, v := range groups(membership, mount) {
		limit = min(limit, v.limit(dir))
	}
	return limit
}

// throttledTime returns for how long the kernel has stopped this process because a limit was used up.
func throttledTime(membership, mount string) (longest time.Duration) {
	for dir, v := range groups(membership, mount) {
		for line := range strings.Lines(content(dir, "cpu.stat")) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == v.throttled {
				n, _ := strconv.ParseInt(value, 10, 64) // the kernel writes a number
				longest = max(longest, time.Duration(n)*v.unit)
			}
		}
	}
	return longest
}

// version is a version of control groups.
type version struct {
	limit     func(dir string) float64
	throttled string // name of a line in cpu.stat
	unit      time.Duration
}

var (
	versionOne = version{func(dir string) float64 {
		return quota(content(dir, "cpu.cfs_quota_us"), content(dir, "cpu.cfs_period_us"))
	}, "throttled_time", time.Nanosecond}
	versionTwo = version{func(dir string) float64 {
		return quota(strings.Fields(content(dir, "cpu.max"))...)
	}, "throttled_usec", time.Microsecond}
)

// groups yields the directories of the process's CPU control group and of those above it.
func groups(membership, mount string) iter.Seq2[string, version] {
	return func(yield func(string, version) bool) {
		data, err := os.ReadFile(membership) //nolint:gosec // G304: a constant outside of tests
		if err != nil {
			return
		}
		for line := range strings.Lines(string(data)) {
			// Version 2 writes 0::/path, version 1 writes 4:cpu,cpuacct:/path.
			_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			controllers, group, _ := strings.Cut(rest, ":")
			v := versionTwo
			if controllers != "" {
				if !slices.Contains(strings.Split(controllers, ","), "cpu") {
					continue
				}
				v = versionOne
			}
			// A container sees its own group either as the root, or by the host's path.
			for ; ; group = path.Dir(group) {
				if !yield(filepath.Join(mount, controllers, group), v) {
					return
				}
				if group == "/" || group == "." {
					break
				}
			}
		}
	}
}

// quota returns the cores of a limit, which is written as microseconds of CPU time and the period in
// microseconds. Without a limit, the first is "max" or -1.
func quota(fields ...string) float64 {
	if len(fields) != 2 {
		return math.Inf(1)
	}
	time, err := strconv.ParseFloat(fields[0], 64)
	period, periodErr := strconv.ParseFloat(fields[1], 64)
	if err != nil || periodErr != nil || time <= 0 || period <= 0 {
		return math.Inf(1)
	}
	return time / period
}

func content(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // G304: a file of the kernel
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
