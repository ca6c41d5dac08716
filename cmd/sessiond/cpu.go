package main

import (
	"log/slog"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/worker"
)

// hashPatience is the longest that a login waits for its turn to be hashed.
const hashPatience = 4 * time.Second

// hashShare is how much of the CPU time that a container may have goes to hashes
// at most. When a limit is used up, the kernel stops all of the container, checks
// too, until the next tenth of a second; a low priority does not help then.
const hashShare = 0.75

// tenthCost is about what a hash of cost 10 takes.
const tenthCost = 60 * time.Millisecond

// hashSlots is how many passwords are hashed at once, and for how much of the
// time: as many as there are cores to do it.
func hashSlots() (slots int, share float64) {
	limit, cores := cpuLimit(), runtime.NumCPU()
	if limit >= float64(cores) {
		return cores, 1
	}
	budget := hashShare * limit
	slots = max(1, int(budget))
	return slots, min(1, budget/float64(slots))
}

// newQueue bounds what hashing takes of this machine.
func (s *settings) newQueue(o identity.Observer) *identity.Queue {
	slots, share := hashSlots()
	return identity.NewQueue(identity.QueueOptions{
		Slots: slots, Share: share, Patience: hashPatience, Observer: o,
		Took: time.Duration(float64(tenthCost) * math.Exp2(float64(s.BcryptCost-10))),
	})
}

// hashOutside has passwords hashed in a process that gives way to everything
// else. The returned function ends it.
func hashOutside(h *identity.Hasher, log *slog.Logger) (stop func() error) {
	slots, _ := hashSlots()
	w, err := startWorker(slots, log)
	if err != nil {
		log.Warn("passwords are hashed in this process, which delays checks more", "error", err)
		// Or those who hash would keep all that there are for 10 ms at a time.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + slots)
		return func() error { return nil }
	}
	h.Engine = w
	return w.Close
}

// workerVerb is the hidden verb of the process that hashes.
const workerVerb = "hash-worker"

func startWorker(slots int, log *slog.Logger) (*worker.Worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return worker.Start([]string{self, workerVerb}, slots, log)
}

// cpuLimit is how many cores' time this process may use: all of the machine's,
// or what its control group leaves of them.
func cpuLimit() float64 {
	return min(float64(runtime.NumCPU()), groupLimit("/proc/self/cgroup", "/sys/fs/cgroup"))
}

// groupLimit reads the limit of a control group and of those above it, of
// version 2 or 1: cgroups(7). Without one it is infinite.
func groupLimit(membership, mount string) float64 {
	limit := math.Inf(1)
	data, err := os.ReadFile(membership) //nolint:gosec // G304: a constant, but in tests
	if err != nil {
		return limit
	}
	for line := range strings.Lines(string(data)) {
		// 0::/path of version 2, or 4:cpu,cpuacct:/path
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		read := versionTwo
		switch {
		case controllers == "":
		case slices.Contains(strings.Split(controllers, ","), "cpu"):
			read = versionOne
		default:
			continue
		}
		// A container may see itself as the root, or the path that the host sees.
		for ; ; group = path.Dir(group) {
			limit = min(limit, read(filepath.Join(mount, controllers, group)))
			if group == "/" || group == "." {
				break
			}
		}
	}
	return limit
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
