//go:build !linux

package hashing

import "runtime"

// Other systems have no priority for a single thread, so these two do nothing.
func lowerThread() {}
func idleThread()  {}

// yield lets the other goroutines of this process run first.
func yield() { runtime.Gosched() }
