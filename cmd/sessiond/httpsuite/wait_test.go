package httpsuite

import (
	"bytes"
	"regexp"
	"sync"
	"testing"
	"time"
)

// patience is the time after which a test stops waiting for an event. It is far longer than the
// event takes, because a busy machine may be very slow.
const patience = 2 * time.Minute

// await waits until the function `holds` returns true. It fails the test after two minutes. The
// parameter `what` describes the awaited event in the error message.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v, but this did not happen: %s", patience, what)
		}
	}
}

// awaitOutput waits until the output of a program matches the regular expression `re`, and returns
// the first group of the match. It fails the test if the program ends first. The channel `done`,
// which may be nil, receives the error with which the program ends.
func awaitOutput(t *testing.T, out *lockedBuffer, done <-chan error, re *regexp.Regexp) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := out.changed()
		if m := re.FindStringSubmatch(out.String()); m != nil {
			return m[1]
		}
		select {
		case <-changed:
		case err := <-done:
			t.Fatalf("the program ended early: %v\n%s", err, out.String())
		case <-deadline:
			t.Fatalf("the program printed nothing that matches %s within %v:\n%s", re, patience, out.String())
		}
	}
}

// lockedBuffer is a buffer to which a program writes while a test reads it.
type lockedBuffer struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	notify chan struct{}
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.notify != nil {
		close(b.notify)
		b.notify = nil
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// changed returns a channel that is closed at the next write to the buffer.
func (b *lockedBuffer) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.notify == nil {
		b.notify = make(chan struct{})
	}
	return b.notify
}
