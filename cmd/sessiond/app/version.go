package app

import (
	"cmp"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

// releaseVersion is the version of this program, if the linker was told it with -X. Otherwise the version is
// the one that Go found in Git.
var releaseVersion string

// build says which program this is.
type build struct{ version, revision, goVersion string }

// thisBuild returns what the Go toolchain wrote into this program. A revision that ends in "+dirty" has
// changes that are not committed.
func thisBuild() build {
	b := build{version: cmp.Or(releaseVersion, "unknown"), revision: "unknown", goVersion: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.goVersion = info.GoVersion
	b.version = cmp.Or(releaseVersion, info.Main.Version, "unknown")
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	b.revision += dirty
	return b
}

// register adds a metric that is always 1, and whose labels say which program this is.
func (b build) register(r prometheus.Registerer) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "sessiond_build_info",
		Help:        "Always 1. The labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": b.version, "revision": b.revision, "go_version": b.goVersion},
	})
	info.Set(1)
	r.MustRegister(info)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: programGroup,
		Short:   "Print the version, its revision in Git, and the version of Go",
		Example: "  sessiond version",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			b := thisBuild()
			_, err := fmt.Fprintf(c.OutOrStdout(), "sessiond %s\nrevision %s\n%s\n", b.version, b.revision, b.goVersion)
			return err
		},
	}
}
