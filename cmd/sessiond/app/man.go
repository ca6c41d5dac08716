package app

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "man [VERB...]",
		GroupID: programGroup,
		Short:   "Print a manual page, or write all of them",
		Example: "  sessiond man serve | man -l -\n  sessiond man --dir /usr/local/share/man/man1",
		RunE: func(c *cobra.Command, args []string) error {
			c.Root().DisableAutoGenTag = true // the date would differ in every file
			header := &doc.GenManHeader{Section: "1", Source: "sessiond " + thisBuild().version, Manual: "sessiond"}
			if dir != "" {
				return doc.GenManTree(c.Root(), header, dir)
			}
			page, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("unknown verb%s", hint(c.Root(), "verbs", nil))
			}
			return doc.GenMan(page, header, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "existing `DIRECTORY` to which the pages of all verbs are written")
	return c
}
