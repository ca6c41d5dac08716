//go:build !linux

package hashing

import "runtime"

// lowerThread does nothing where threads have no priorities of their own.
func lowerThread() {}

// idleThread does nothing there either.
func idleThread() {}

// giveWay lets those of this process go first who wait for this core.
func giveWay() { runtime.Gosched() }
