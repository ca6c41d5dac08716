package app

import (
	"log/slog"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/sessiond/sessiond/identity/hashing"
)

// hashPatience is the longest time that a login waits for its turn to be hashed.
const hashPatience = 4 * time.Second

// costTenDuration is roughly the time of one hash of cost 10.
const costTenDuration = 60 * time.Millisecond

// newQueue returns the queue that bounds how much of this machine hashing takes. separate says that
// a process of its own hashes.
func (s *Settings) newQueue(o hashing.Observer, separate bool) *hashing.Queue {
	slots := hashing.Slots(separate && hashing.OwnsMachine())
	return hashing.NewQueue(hashing.QueueOptions{
		Slots: slots, Share: hashing.CPUShare(slots, separate), Patience: hashPatience, Observer: o,
		HashTime: time.Duration(float64(costTenDuration) * math.Exp2(float64(s.BcryptCost-10))),
	})
}

// workerVerb is the hidden verb of the process that hashes.
const workerVerb = "hash-worker"

// startWorker makes the hasher use a process of its own, which yields the CPU to everything else.
// The returned function ends that process.
func startWorker(h *hashing.Hasher, log *slog.Logger) (stop func() error) {
	idle := hashing.OwnsMachine()
	var w *hashing.Worker
	self, err := os.Executable()
	if err == nil {
		w, err = hashing.StartWorker([]string{self, workerVerb}, hashing.Slots(idle), idle, log)
	}
	if err != nil {
		log.Warn("passwords are hashed in this process, which delays checks more", "error", err)
		// Without extra threads, hashes would keep every thread for 10 ms at a time.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + hashing.Slots(false))
		return func() error { return nil }
	}
	h.Engine = w
	return w.Close
}
