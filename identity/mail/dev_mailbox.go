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

// mailboxSize is how many messages a DevMailbox keeps. It drops the oldest ones.
const mailboxSize = 200

// DevMailbox is a [Mailer] for development. Instead of sending a mail, it adds the mail to a file as a line
// of JSON. It is safe for concurrent use within one process.
type DevMailbox struct {
	path string

	mu   sync.Mutex
	kept []KeptMessage // oldest first
}

// KeptMessage is a message in a [DevMailbox].
type KeptMessage struct {
	Message
	SentAt time.Time `json:"sent_at"`
}

var _ Mailer = (*DevMailbox)(nil)

// NewDevMailbox opens the mailbox in the file at path. It creates the file if there is none.
func NewDevMailbox(path string) (*DevMailbox, error) {
	b := &DevMailbox{path: path}
	data, err := os.ReadFile(path) //nolint:gosec // G304: the path is configuration
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the mailbox: %w", err)
	}
	var kept []KeptMessage
	for line := range bytes.Lines(data) {
		var k KeptMessage
		if json.Unmarshal(line, &k) == nil { // skip an incomplete line, which an older release may have left
			kept = append(kept, k)
		}
	}
	if err := b.store(kept); err != nil {
		return nil, fmt.Errorf("open the mailbox: %w", err)
	}
	return b, nil
}

// Send implements [Mailer]. It stores the message.
func (b *DevMailbox) Send(_ context.Context, m Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.store(append(slices.Clone(b.kept), KeptMessage{m, time.Now().UTC()})); err != nil {
		return fmt.Errorf("store mail in the mailbox: %w", err)
	}
	return nil
}

// List returns the messages, newest first. The list is never nil.
func (b *DevMailbox) List() []KeptMessage {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := append([]KeptMessage{}, b.kept...)
	slices.Reverse(list)
	return list
}

// store replaces the file by a file with the newest of the messages.
func (b *DevMailbox) store(messages []KeptMessage) error {
	messages = messages[max(0, len(messages)-mailboxSize):]
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	for _, k := range messages {
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
	b.kept = messages
	return nil
}
