// Package worker hashes passwords in a process of its own, which gives way to
// everything else on the machine.
//
// A hash keeps a core busy for tens of milliseconds. A check of a token that
// arrives meanwhile would have to wait for the Go scheduler, or the kernel, to take the
// core away; and no thread of a Go program that others wait for can be given a lower
// priority, because all of it waits for that one when garbage is collected. Here nobody
// does. See decision 0012 for what was measured.
package worker
