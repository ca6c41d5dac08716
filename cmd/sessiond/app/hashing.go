package app

import (
	"log/slog"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/sessiond/sessiond/identity/hashing"
)

// hashPatience is the longest time that a login waits in the queue for its password hash.
const hashPatience = 4 * time.Second

// costTenDuration is roughly the time that one bcrypt hash of cost 10 takes.
const costTenDuration = 60 * time.Millisecond

// newQueue returns the queue that limits how much CPU time password hashing takes. The parameter
// separate says whether hashing runs in its own process.
func (s *Settings) newQueue(o hashing.Observer, separate bool) *hashing.Queue {
	slots := hashing.Slots(separate && hashing.OwnsMachine())
	return hashing.NewQueue(hashing.QueueOptions{
		Slots: slots, Share: hashing.CPUShare(slots, separate), Patience: hashPatience, Observer: o,
		HashTime: time.Duration(float64(costTenDuration) * math.Exp2(float64(s.BcryptCost-10))),
	})
}

// workerVerb is the undocumented verb that starts the process that hashes passwords.
const workerVerb = "hash-worker"

// startWorker makes the hasher use a separate process, which yields the CPU to all other work. The
// returned function stops that process.
func startWorker(h *hashing.Hasher, log *slog.Logger) (stop func() error) {
	idle := hashing.OwnsMachine()
	var w *hashing.Worker
	self, err := "/proc/self/exe", error(nil) // the running program, even if its file was replaced or deleted
	if runtime.GOOS != "linux" {
		self, err = os.Executable()
	}
	if err == nil {
		w, err = hashing.StartWorker([]string{self, workerVerb}, hashing.Slots(idle), idle, log)
	}
	if err != nil {
		log.Warn("passwords are hashed in this process, which delays checks more", "error", err)
		// Add threads, because hashes could otherwise occupy all threads and delay requests by 10 ms.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + hashing.Slots(false))
		return func() error { return nil }
	}
	h.Engine = w
	return w.Close
}
