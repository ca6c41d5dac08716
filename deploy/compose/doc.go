// Package compose tests compose.yaml, which needs images that a test cannot have: it checks the file with
// the library of Docker Compose, and starts its services as processes, each in a network namespace of its
// own, with the commands, environments and files that the file gives them.
package compose
