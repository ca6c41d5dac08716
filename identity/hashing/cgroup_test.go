package hashing

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestGroupLimit_ReadsBothVersionsOfControlGroups(t *testing.T) {
	for name, c := range map[string]struct {
		membership string
		files      map[string]string
		want       float64
	}{
		"no control groups":                        {"", nil, math.Inf(1)},
		"version 2":                                {"0::/pod/web\n", map[string]string{"pod/web/cpu.max": "150000 100000\n"}, 1.5},
		"version 2, unlimited":                     {"0::/pod\n", map[string]string{"pod/cpu.max": "max 100000\n"}, math.Inf(1)},
		"version 2, limited by the parent group":   {"0::/pod/web\n", map[string]string{"pod/web/cpu.max": "max 100000", "pod/cpu.max": "50000 100000"}, 0.5},
		"version 2, the lower of two limits":       {"0::/pod/web\n", map[string]string{"pod/web/cpu.max": "200000 100000", "pod/cpu.max": "100000 100000"}, 1},
		"version 2, the container is the root":     {"0::/\n", map[string]string{"cpu.max": "200000 100000"}, 2},
		"version 2, path of the host":              {"0::/host/pod\n", map[string]string{"cpu.max": "25000 100000"}, 0.25},
		"version 1":                                {"5:memory:/m\n4:cpu:/web\n", map[string]string{"cpu/web/cpu.cfs_quota_us": "100000", "cpu/web/cpu.cfs_period_us": "50000"}, 2},
		"version 1, two controllers at once":       {"4:cpu,cpuacct:/web\n", map[string]string{"cpu,cpuacct/web/cpu.cfs_quota_us": "100000", "cpu,cpuacct/web/cpu.cfs_period_us": "100000"}, 1},
		"version 1, unlimited":                     {"4:cpu:/web\n", map[string]string{"cpu/web/cpu.cfs_quota_us": "-1", "cpu/web/cpu.cfs_period_us": "100000"}, math.Inf(1)},
		"version 1, a limit of another controller": {"4:cpuset:/web\n", map[string]string{"cpuset/web/cpu.cfs_quota_us": "1", "cpuset/web/cpu.cfs_period_us": "100000"}, math.Inf(1)},
		"malformed":                                {"nonsense\n0::\n::::\n", map[string]string{"cpu.max": "a lot"}, math.Inf(1)},
		"a period of zero":                         {"0::/\n", map[string]string{"cpu.max": "1000 0"}, math.Inf(1)},
	} {
		t.Run(name, func(t *testing.T) {
			mount := t.TempDir()
			membership := filepath.Join(mount, "membership")
			if c.membership != "" {
				write(t, membership, c.membership)
			}
			for file, text := range c.files {
				write(t, filepath.Join(mount, file), text)
			}
			if got := groupLimit(membership, mount); got != c.want {
				t.Errorf("%v cores, want %v", got, c.want)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestThrottledTime_ReadsBothVersionsOfControlGroups(t *testing.T) {
	for name, c := range map[string]struct{ membership, file, text string }{
		"version 2": {"0::/pod\n", "pod/cpu.stat", "usage_usec 9\nnr_throttled 2\nthrottled_usec 1500\n"},
		"version 1": {"4:cpu:/web\n", "cpu/web/cpu.stat", "nr_periods 5\nthrottled_time 1500000\n"},
	} {
		t.Run(name, func(t *testing.T) {
			mount := t.TempDir()
			membership := filepath.Join(mount, "membership")
			write(t, membership, c.membership)
			write(t, filepath.Join(mount, c.file), c.text)
			if got := throttledTime(membership, mount); got != 1500*time.Microsecond {
				t.Errorf("throttled for %v, want 1.5ms", got)
			}
		})
	}
}
