//go:build production

package app

import "github.com/spf13/cobra"

// These replace what dev.go declares.

const production = true

var withData []string

func addDev(*cobra.Command, lookupEnv) {}
