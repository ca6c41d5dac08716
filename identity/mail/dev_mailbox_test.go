package mail

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func openMailbox(t *testing.T, path string) *DevMailbox {
	t.Helper()
	b, err := NewDevMailbox(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func send(t *testing.T, b *DevMailbox, subject string) {
	t.Helper()
	m := Message{To: "a@example.org", Subject: subject, Text: "line one\nline two", HTML: "<p>é</p>"}
	if err := b.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func TestDevMailbox_KeepsMailAcrossRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.jsonl")
	b := openMailbox(t, path)
	if list, err := json.Marshal(b.List()); err != nil || string(list) != "[]" {
		t.Errorf("empty: %s, %v", list, err)
	}
	send(t, b, "first")
	send(t, b, "second")
	for _, b := range []*DevMailbox{b, openMailbox(t, path)} {
		list := b.List()
		if len(list) != 2 || list[0].Subject != "second" || list[1].Subject != "first" {
			t.Fatalf("got %+v", list)
		}
		k := list[0]
		if k.To != "a@example.org" || k.Text != "line one\nline two" || k.HTML != "<p>é</p>" || k.SentAt.IsZero() {
			t.Errorf("got %+v", k)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	list, err := json.Marshal(b.List()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{`"to"`, `"subject"`, `"text"`, `"html"`, `"sent_at"`} {
		if !strings.Contains(string(list), name) {
			t.Errorf("the JSON lacks %s: %s", name, list)
		}
	}
}

func TestDevMailbox_KeepsOnlyTheNewest200Messages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.jsonl")
	b := openMailbox(t, path)
	const sent = 3*mailboxSize + 7
	for i := range sent {
		send(t, b, fmt.Sprint(i))
	}
	for _, b := range []*DevMailbox{b, openMailbox(t, path)} {
		list := b.List()
		if len(list) != mailboxSize || list[0].Subject != fmt.Sprint(sent-1) || list[mailboxSize-1].Subject != fmt.Sprint(sent-mailboxSize) {
			t.Errorf("the mailbox holds %d messages, from %s to %s", len(list), list[0].Subject, list[len(list)-1].Subject)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(data), "\n"); lines > 2*mailboxSize {
		t.Errorf("the file has %d lines, want at most %d", lines, 2*mailboxSize)
	}
}

func TestDevMailbox_IgnoresIncompleteLineInItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.jsonl")
	send(t, openMailbox(t, path), "whole")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, data[:len(data)/2]...), 0o600); err != nil {
		t.Fatal(err)
	}
	send(t, openMailbox(t, path), "after")
	if list := openMailbox(t, path).List(); len(list) != 2 || list[0].Subject != "after" || list[1].Subject != "whole" {
		t.Errorf("got %+v", list)
	}
}

func TestDevMailbox_IsSafeForConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.jsonl")
	b := openMailbox(t, path)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				send(t, b, "x")
				b.List()
			}
		})
	}
	all.Wait()
	if n := len(openMailbox(t, path).List()); n != 80 {
		t.Errorf("the mailbox holds %d messages, want 80", n)
	}
}

func TestNewDevMailbox_FailsIfTheDirectoryIsMissing(t *testing.T) {
	if _, err := NewDevMailbox(filepath.Join(t.TempDir(), "missing", "mail.jsonl")); err == nil {
		t.Error("opened a mailbox in a missing directory")
	}
}
