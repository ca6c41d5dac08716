package size

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Line is one row of the table that Print prints.
type Line struct {
	Name  string
	Value func(*Size) string
}

// Lines are the rows of the table.
var Lines = []Line{
	{"sessions in use", func(s *Size) string { return Number(s.Live) }},
	{"checks a second", func(s *Size) string { return Number(s.Checks) }},
	{"logins a second", func(s *Size) string { return Number(s.Logins) }},
	{"refreshes a second", func(s *Size) string { return Number(s.Refreshes) }},
	{"last-seen times written a second", func(s *Size) string { return Number(s.Uses) }},
	{"**replicas**", func(s *Size) string { return Number(float64(s.Replicas)) }},
	{"CPU of the service, cores", func(s *Size) string { return Number(s.ServiceCores) }},
	{"checks in a batch", func(s *Size) string { return Number(s.Batch) }},
	{"**Redis shards**", func(s *Size) string { return Number(float64(s.Shards)) }},
	{"CPU of Redis, cores", func(s *Size) string { return Number(s.RedisCores) }},
	{"memory of Redis, all masters, GB", func(s *Size) string { return Number(s.RedisGB) }},
	{"one shard's core for rate limits, %", func(s *Size) string { return Number(100 * s.LimitsShare) }},
	{"**Postgres, GB on disk**", func(s *Size) string { return Number(s.PostgresGB) }},
	{"rows of the history", func(s *Size) string { return Number(s.Rows) }},
	{"partitions", func(s *Size) string { return Number(float64(s.Partitions)) }},
	{"CPU of Postgres, cores", func(s *Size) string { return Number(s.PostgresCores) }},
	{"transactions a second", func(s *Size) string { return Number(s.Commits) }},
	{"writes to the disk a second (IOPS), at most", func(s *Size) string { return Number(s.IOPS) }},
	{"WAL, MB a second", func(s *Size) string { return Number(s.WALMB) }},
	{"connections of the replicas", func(s *Size) string { return Number(float64(s.Connections)) }},
	{"connections from the pooler to Postgres", func(s *Size) string { return Number(float64(s.Servers)) }},
}

// Print prints the sizes as a table in Markdown.
func Print(w io.Writer, sizes []Size) {
	fmt.Fprint(w, "| users |")
	for _, s := range sizes {
		fmt.Fprintf(w, " %s |", Number(s.Users))
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" ---: |", len(sizes)))
	for _, line := range Lines {
		fmt.Fprintf(w, "| %s |", line.Name)
		for i := range sizes {
			fmt.Fprintf(w, " %s |", line.Value(&sizes[i]))
		}
		fmt.Fprintln(w)
	}
}

// Number formats a number with two digits that count, such as 0.25, 3.1, 140, 1,200 or 12 million.
func Number(n float64) string {
	if n == 0 {
		return "0"
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(n)))-1)
	n = math.Round(n/unit) * unit
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.4g billion", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.4g million", n/1e6)
	case n >= 1000:
		return fmt.Sprintf("%d,%03d", int(n+0.5)/1000, int(n+0.5)%1000)
	default:
		return fmt.Sprintf("%.4g", n)
	}
}
