//go:build !linux

package worker

// lowerThread does nothing where threads have no priorities of their own.
func lowerThread() {}
