//go:build !linux

package hashing

import "runtime"

// Systems other than Linux have no priority for a single thread, so these functions do nothing.
func lowerThread() {}
func idleThread()  {}

// yield lets the other goroutines of this process run first.
func yield() { runtime.Gosched() }
