// Package hashing makes and verifies password hashes, and bounds how much CPU that takes. A [Queue]
// decides which request may hash. A [Worker] hashes in a process of low priority. In a container with
// a CPU limit, a [CPUShare] reserves a part of the limit for everything except hashing.
package hashing
