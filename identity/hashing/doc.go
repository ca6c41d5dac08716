// Package hashing makes and verifies password hashes, and bounds what that costs the machine. A
// [Queue] decides which request may hash, a [Worker] hashes in a process of low priority, and a CPU
// budget leaves room for everything else.
package hashing
