package main

import (
	"context"
	"database/sql"
	"os"
	"runtime"
	"strings"
)

// machine says where figures come from. What cannot be learned is empty.
type machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Redis    string `json:"redis"`
	Postgres string `json:"postgres"`
}

func (s *stage) describeMachine(ctx context.Context) machine {
	m := machine{
		CPU: lineOf("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	if text, err := s.space.client.Info(ctx, "server").Result(); err == nil {
		m.Redis = parseInfo(text)["redis_version"]
	}
	if db, err := sql.Open("postgres", s.databaseURL); err == nil {
		_ = db.QueryRowContext(ctx, "SHOW server_version").Scan(&m.Postgres) // stays empty
		_ = db.Close()                                                       // nothing was written
	}
	return m
}

// lineOf finds the first value of that name in a file of lines "name : value".
func lineOf(path, name string) string {
	data, err := os.ReadFile(path) //nolint:gosec // G304: a constant
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (m *machine) String() string {
	var parts []string
	for _, p := range []string{m.CPU, "Linux " + m.Kernel, m.Go, "Redis " + m.Redis, "PostgreSQL " + m.Postgres} {
		if !strings.HasSuffix(p, " ") {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ", ")
}
