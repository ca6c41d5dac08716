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

// cpuLimit is how many cores' time this process may use: all of the machine's,
// or what its control group leaves of them.
func cpuLimit() float64 {
	return min(float64(runtime.NumCPU()), groupLimit("/proc/self/cgroup", "/sys/fs/cgroup"))
}

// groupLimit reads the limit of a control group and of those above it, of
// version 2 or 1: cgroups(7). Without one it is infinite.
func groupLimit(membership, mount string) float64 {
	limit := math.Inf(1)
	for dir, v := range groups(membership, mount) {
		limit = min(limit, v.limit(dir))
	}
	return limit
}

// groupStopped is for how long the kernel has stopped us because a limit was used up.
func groupStopped(membership, mount string) (longest time.Duration) {
	for dir, v := range groups(membership, mount) {
		for line := range strings.Lines(content(dir, "cpu.stat")) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == v.stopped {
				n, _ := strconv.ParseInt(value, 10, 64) // the kernel's
				longest = max(longest, time.Duration(n)*v.unit)
			}
		}
	}
	return longest
}

// version is what differs between the versions of control groups.
type version struct {
	limit   func(dir string) float64
	stopped string // in cpu.stat
	unit    time.Duration
}

// groups yields the directories of the control group of the CPU and of those above it.
func groups(membership, mount string) iter.Seq2[string, version] {
	return func(yield func(string, version) bool) {
		data, err := os.ReadFile(membership) //nolint:gosec // G304: a constant, but in tests
		if err != nil {
			return
		}
		for line := range strings.Lines(string(data)) {
			// 0::/path of version 2, or 4:cpu,cpuacct:/path
			_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			controllers, group, _ := strings.Cut(rest, ":")
			v := version{versionTwo, "throttled_usec", time.Microsecond}
			switch {
			case controllers == "":
			case slices.Contains(strings.Split(controllers, ","), "cpu"):
				v = version{versionOne, "throttled_time", time.Nanosecond}
			default:
				continue
			}
			// A container may see itself as the root, or the path that the host sees.
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

func versionTwo(dir string) float64 { return quota(strings.Fields(content(dir, "cpu.max"))) }

func versionOne(dir string) float64 {
	return quota([]string{content(dir, "cpu.cfs_quota_us"), content(dir, "cpu.cfs_period_us")})
}

// quota is a number of microseconds in so many.
func quota(fields []string) float64 {
	if len(fields) != 2 {
		return math.Inf(1)
	}
	time, err := strconv.ParseFloat(fields[0], 64)
	period, periodErr := strconv.ParseFloat(fields[1], 64)
	if err != nil || periodErr != nil || time <= 0 || period <= 0 { // "max", -1
		return math.Inf(1)
	}
	return time / period
}

func content(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // G304: of the kernel's
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
