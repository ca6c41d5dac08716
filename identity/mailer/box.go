package mailer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sessiond/sessiond/identity"
)

// boxSize is how many messages a Box keeps.
const boxSize = 200

// Box keeps mail in a file instead of sending it: one JSON object a line, oldest
// first. It is for development, and safe for concurrent use within one process.
type Box struct {
	path string

	mu    sync.Mutex
	kept  []Kept // oldest first, at most boxSize
	lines int    // in the file
}

// Kept is a message in a [Box].
type Kept struct {
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
	SentAt  time.Time `json:"sent_at"`
}

var _ identity.Mailer = (*Box)(nil)

// NewBox opens the box in that file, which need not exist yet.
func NewBox(path string) (*Box, error) {
	b := &Box{path: path}
	data, err := os.ReadFile(path) //nolint:gosec // G304: the path is configuration
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open mailbox: %w", err)
	}
	for line := range bytes.Lines(data) {
		var k Kept
		if json.Unmarshal(line, &k) == nil { // else it was cut short by a crash
			b.kept = append(b.kept, k)
		}
	}
	b.kept = newest(b.kept)
	// This also mends the end of a file that was cut short, onto which the next
	// line would be written.
	if err := b.rewrite(); err != nil {
		return nil, fmt.Errorf("open mailbox: %w", err)
	}
	return b, nil
}

// Send keeps the message.
func (b *Box) Send(_ context.Context, m identity.Message) error {
	k := Kept{To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML, SentAt: time.Now().UTC()}
	line, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("keep mail: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.append(append(line, '\n')); err != nil {
		return fmt.Errorf("keep mail: %w", err)
	}
	b.kept = newest(append(b.kept, k))
	if b.lines >= 2*boxSize {
		_ = b.rewrite() // if not now, after the next: the message is kept already
	}
	return nil
}

// List returns what is kept, newest first; never nil.
func (b *Box) List() []Kept {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := append([]Kept{}, b.kept...)
	slices.Reverse(list)
	return list
}

func (b *Box) append(line []byte) error {
	f, err := os.OpenFile(b.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	b.lines++
	return nil
}

// rewrite makes the file hold just what is kept.
func (b *Box) rewrite() error {
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	for _, k := range b.kept {
		if err := encoder.Encode(k); err != nil {
			return err
		}
	}
	next := b.path + ".next"
	if err := os.WriteFile(next, data.Bytes(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, b.path); err != nil {
		return err
	}
	b.lines = len(b.kept)
	return nil
}

func newest(kept []Kept) []Kept {
	if extra := len(kept) - boxSize; extra > 0 {
		return slices.Delete(kept, 0, extra)
	}
	return kept
}
