// Package hashing makes and verifies password hashes, and makes them a bounded resource of the machine:
// a queue decides who may hash, a separate process hashes at a low priority, and a CPU budget
// leaves room for everything else.
package hashing
