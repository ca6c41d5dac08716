package mail

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
)

// mailboxSize is how many messages a mailbox keeps.
const mailboxSize = 200

// DevMailbox is a [Mailer] for development. It stores mail in a file instead of sending it, one JSON
// object per line, oldest first. It is safe for concurrent use within one process.
type DevMailbox struct {
	path string

	mu    sync.Mutex
	kept  []KeptMessage // oldest first, at most mailboxSize
	lines int           // in the file
}

// KeptMessage is a message in a [DevMailbox].
type KeptMessage struct {
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
	SentAt  time.Time `json:"sent_at"`
}

var _ Mailer = (*DevMailbox)(nil)

// NewDevMailbox opens the mailbox in a file, which need not exist yet.
func NewDevMailbox(path string) (*DevMailbox, error) {
	b := &DevMailbox{path: path}
	data, err := os.ReadFile(path) //nolint:gosec // G304: the path is configuration
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the mailbox: %w", err)
	}
	for line := range bytes.Lines(data) {
		var k KeptMessage
		if json.Unmarshal(line, &k) == nil { // a crash may have cut a line short
			b.kept = append(b.kept, k)
		}
	}
	b.kept = newest(b.kept)
	// This also removes a line that was cut short. Otherwise the next message would be appended to it.
	if err := b.rewrite(); err != nil {
		return nil, fmt.Errorf("open the mailbox: %w", err)
	}
	return b, nil
}

// Send implements [Mailer]. It stores the message.
func (b *DevMailbox) Send(_ context.Context, m Message) error {
	k := KeptMessage{To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML, SentAt: time.Now().UTC()}
	line, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("store mail in the mailbox: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.append(append(line, '\n')); err != nil {
		return fmt.Errorf("store mail in the mailbox: %w", err)
	}
	b.kept = newest(append(b.kept, k))
	if b.lines >= 2*mailboxSize {
		_ = b.rewrite() // if it fails, the next Send tries again: the message is already stored
	}
	return nil
}

// List returns the messages, newest first. It is never nil.
func (b *DevMailbox) List() []KeptMessage {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := append([]KeptMessage{}, b.kept...)
	slices.Reverse(list)
	return list
}

func (b *DevMailbox) append(line []byte) error {
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

// rewrite makes the file hold only the messages that are kept.
func (b *DevMailbox) rewrite() error {
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

// newest returns the last mailboxSize messages.
func newest(kept []KeptMessage) []KeptMessage {
	if extra := len(kept) - mailboxSize; extra > 0 {
		return slices.Delete(kept, 0, extra)
	}
	return kept
}
