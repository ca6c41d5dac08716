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

// Linux describes control groups, such as containers, in these files; see cgroups(7).
const (
	membershipFile = "/proc/self/cgroup"
	cgroupMount    = "/sys/fs/cgroup"
)

// cpuLimit returns how many cores this process may use. It may be a fraction, such as 1.5.
func cpuLimit() float64 {
	return min(float64(runtime.NumCPU()), groupLimit(membershipFile, cgroupMount))
}

// groupLimit returns the lowest CPU limit, in cores, of this process's control group and the groups
// above it. It returns infinity if none of them has a limit.
func groupLimit(membership, mount string) float64 {
	limit := math.Inf(1)
	for dir, v := range groups(membership, mount) {
		limit = min(limit, v.limit(dir))
	}
	return limit
}

// throttledTime returns how long in total the kernel has stopped this process's control group because
// a CPU limit was used up.
func throttledTime(membership, mount string) (longest time.Duration) {
	for dir, v := range groups(membership, mount) {
		for line := range strings.Lines(content(dir, "cpu.stat")) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == v.throttled {
				n, _ := strconv.ParseInt(value, 10, 64) // ParseInt cannot fail, because the kernel wrote the number
				longest = max(longest, time.Duration(n)*v.unit)
			}
		}
	}
	return longest
}

// version describes one of the two versions of Linux's control groups.
type version struct {
	limit     func(dir string) float64 // reads a group's CPU limit in cores
	throttled string                   // name of the line in cpu.stat that has the throttled time
	unit      time.Duration            // unit of the throttled time in the file cpu.stat
}

var (
	versionOne = version{func(dir string) float64 {
		return quota(content(dir, "cpu.cfs_quota_us"), content(dir, "cpu.cfs_period_us"))
	}, "throttled_time", time.Nanosecond}
	versionTwo = version{func(dir string) float64 {
		return quota(strings.Fields(content(dir, "cpu.max"))...)
	}, "throttled_usec", time.Microsecond}
)

// groups yields the directory of this process's CPU control group, and then of each group above it.
func groups(membership, mount string) iter.Seq2[string, version] {
	return func(yield func(string, version) bool) {
		data, err := os.ReadFile(membership) //nolint:gosec // G304: the path is a constant outside of tests
		if err != nil {
			return
		}
		for line := range strings.Lines(string(data)) {
			// A line is 0::/path for version 2, or like 4:cpu,cpuacct:/path for version 1.
			_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			controllers, group, _ := strings.Cut(rest, ":")
			v := versionTwo
			if controllers != "" {
				if !slices.Contains(strings.Split(controllers, ","), "cpu") {
					continue
				}
				v = versionOne
			}
			// In a container, the path is "/" or the path on the host, of which the container sees only a
			// part. So the directories of all parents are tried.
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

// quota returns a limit in cores. The fields are the CPU time that is allowed in each period and the
// period, both in microseconds. If there is no limit, the first field is "max" or -1.
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
	data, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // G304: the file belongs to the kernel
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
