package app

import (
	"iter"
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
// to do it. Those who give way may be one more, because the turn of one of them has
// always just begun or ended, with a lookup of its user or an answer on its way.
func hashSlots(giveWay bool) int {
	slots := int(math.Ceil(cpuLimit()))
	if giveWay {
		slots++
	}
	return slots
}

// unlimited: all cores are ours. In a control group with a limit what runs only when
// nothing else does would not run at all while checks use it up; what hashes may take
// is bounded there.
func unlimited() bool { return cpuLimit() >= float64(runtime.NumCPU()) }

// newQueue bounds what hashing takes of this machine. outside: in a process of its own.
func (s *Settings) newQueue(o identity.Observer, outside bool) *identity.Queue {
	slots := hashSlots(outside && unlimited())
	options := identity.QueueOptions{
		Slots: slots, Patience: hashPatience, Observer: o,
		Took: time.Duration(float64(tenthCost) * math.Exp2(float64(s.BcryptCost-10))),
	}
	if !unlimited() {
		b := &cpuBudget{limit: cpuLimit(), slots: slots, now: time.Now, used: ownCPU, reserve: leastReserve}
		b.stopped = func() time.Duration { return groupStopped("/proc/self/cgroup", "/sys/fs/cgroup") }
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
// leaves, less a reserve that grows while the kernel has to stop us.
type cpuBudget struct {
	limit float64 // cores
	slots int
	now   func() time.Time
	// So far: what all but hashes used, and for how long the kernel stopped us.
	used, stopped func() time.Duration

	mu                    sync.Mutex
	at                    time.Time // of the last look
	usedThen, stoppedThen time.Duration
	reserve               float64 // of the limit
	present               float64
}

const (
	// The reserve is for what comes suddenly; leastHashing goes to hashes however busy
	// the rest is. Both are of the limit.
	leastReserve, mostReserve = 0.02, 0.2
	leastHashing              = 0.2
	// tolerated is for how much of the time the kernel may stop us.
	tolerated = 0.005
	// budgetPeriod is how often it is looked at.
	budgetPeriod = time.Second
)

// share is how much of its time a slot may hash.
func (b *cpuBudget) share() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if passed := now.Sub(b.at); b.present == 0 || passed >= budgetPeriod {
		used, stopped := b.used(), b.stopped()
		others := 0.0
		if !b.at.IsZero() {
			others = float64(used-b.usedThen) / float64(passed)
			b.adapt(float64(stopped-b.stoppedThen)/float64(passed), passed)
		}
		left := max(leastHashing*b.limit, (1-b.reserve)*b.limit-others)
		b.at, b.usedThen, b.stoppedThen, b.present = now, used, stopped, min(1, left/float64(b.slots))
	}
	return b.present
}

// adapt moves the reserve by the share of the time that passed for which we were
// stopped: up quickly, down slowly.
func (b *cpuBudget) adapt(stopped float64, passed time.Duration) {
	if stopped > tolerated {
		b.reserve = min(mostReserve, b.reserve+0.03)
	} else {
		b.reserve = max(leastReserve, b.reserve-0.005*passed.Seconds())
	}
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
	w, err := startWorker(hashSlots(unlimited()), unlimited(), log)
	if err != nil {
		slots := hashSlots(false)
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

func startWorker(slots int, idle bool, log *slog.Logger) (*worker.Worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return worker.Start([]string{self, workerVerb}, slots, idle, log)
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
