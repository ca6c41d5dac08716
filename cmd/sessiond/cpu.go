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
	"sync"
	"syscall"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/worker"
)

// hashPatience is the longest that a login waits for its turn to be hashed.
const hashPatience = 4 * time.Second

// tenthCost is about what a hash of cost 10 takes.
const tenthCost = 60 * time.Millisecond

// hashSlots is how many passwords are hashed at once: as many as there are cores
// to do it.
func hashSlots() int { return int(math.Ceil(cpuLimit())) }

// newQueue bounds what hashing takes of this machine. outside: in a process of its own.
func (s *settings) newQueue(o identity.Observer, outside bool) *identity.Queue {
	slots, limit := hashSlots(), cpuLimit()
	options := identity.QueueOptions{
		Slots: slots, Patience: hashPatience, Observer: o,
		Took: time.Duration(float64(tenthCost) * math.Exp2(float64(s.BcryptCost-10))),
	}
	if limit < float64(runtime.NumCPU()) {
		b := &cpuBudget{limit: limit, slots: slots, now: time.Now, used: ownCPU}
		if !outside {
			b.used = func() time.Duration { return 0 } // what hashes take is not to be told from the rest
		}
		options.Share = b.share
	}
	return identity.NewQueue(options)
}

// cpuBudget is what a control group's limit leaves for hashes. When a limit is used up,
// the kernel stops all of the container, checks too, until the next tenth of a
// second, and a low priority does not help. So hashes take what everything else
// leaves, less a reserve.
type cpuBudget struct {
	limit float64 // cores
	slots int
	now   func() time.Time
	used  func() time.Duration // by all but hashes, so far

	mu      sync.Mutex
	at      time.Time // of the last look
	before  time.Duration
	present float64
}

const (
	// cpuReserve is kept for what comes suddenly; leastHashing goes to hashes however busy
	// the rest is. Both are of the limit.
	cpuReserve   = 0.05
	leastHashing = 0.2
	// budgetPeriod is how often it is looked at.
	budgetPeriod = time.Second
)

// share is how much of its time a slot may hash.
func (b *cpuBudget) share() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if passed := now.Sub(b.at); b.present == 0 || passed >= budgetPeriod {
		used := b.used()
		others := float64(used-b.before) / float64(passed)
		if b.at.IsZero() {
			others = 0
		}
		left := max(leastHashing*b.limit, (1-cpuReserve)*b.limit-others)
		b.at, b.before, b.present = now, used, min(1, left/float64(b.slots))
	}
	return b.present
}

// ownCPU is what this process has used, without its children.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // it cannot fail
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// hashOutside has passwords hashed in a process that gives way to everything
// else. The returned function ends it.
func hashOutside(h *identity.Hasher, log *slog.Logger) (stop func() error) {
	slots := hashSlots()
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
