package faultsuite

import "syscall"

// childAttributes makes a child end with the test, also if the test is killed.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
