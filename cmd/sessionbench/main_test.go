package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the baselines: the smoke test has this very program start
// itself once more.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == baselineVerb {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}
