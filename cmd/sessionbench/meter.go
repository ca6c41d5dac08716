package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisMeter is what a Redis says of its own work so far.
type redisMeter struct {
	cpu   time.Duration
	reads int64 // read events: one for each pipeline that arrives in one piece
	used  int64 // bytes
}

// readRedis reads the meter; doing so is one read event.
func readRedis(ctx context.Context, client *redis.Client) (redisMeter, error) {
	text, err := client.Info(ctx, "stats", "cpu", "memory").Result()
	if err != nil {
		return redisMeter{}, fmt.Errorf("INFO of Redis: %w", err)
	}
	info := parseInfo(text)
	seconds := func(name string) float64 {
		s, _ := strconv.ParseFloat(info[name], 64) // 0 where it is not told
		return s
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(info[name], 10, 64) // as above
		return n
	}
	return redisMeter{
		cpu:   time.Duration((seconds("used_cpu_user") + seconds("used_cpu_sys")) * float64(time.Second)),
		reads: number("total_reads_processed"), used: number("used_memory"),
	}, nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// ticksPerSecond is the unit of the times in /proc, on every architecture that
// Go runs on.
const ticksPerSecond = 100

var errNoProc = errors.New("no /proc to read: this measures on Linux only")

// processCPU is the time that a process has had on a CPU, in user code and in
// the kernel, and that of its children which have ended.
func processCPU(pid int) (own, children time.Duration, err error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, errors.Join(errNoProc, err)
	}
	return parseStat(string(data))
}

func parseStat(text string) (own, children time.Duration, err error) {
	// The second field is the program's name in brackets and may hold anything.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const utime = 14 - 3 // proc(5) counts from 1, and we begin at its third
	if len(fields) < utime+4 {
		return 0, 0, fmt.Errorf("%w: %.80q", errNoProc, text)
	}
	t, err := ticks(fields[utime : utime+4])
	if err != nil {
		return 0, 0, err
	}
	return t[0] + t[1], t[2] + t[3], nil
}

func ticks(fields []string) ([]time.Duration, error) {
	t := make([]time.Duration, len(fields))
	for i, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoProc, err)
		}
		t[i] = time.Duration(n) * (time.Second / ticksPerSecond)
	}
	return t, nil
}

// machineCPU is the time that all programs together have had on all CPUs, and
// what the host of a virtual machine took away from it.
func machineCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, errors.Join(errNoProc, err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	const user, nice, system, steal = 1, 2, 3, 8
	if len(fields) <= steal {
		return 0, fmt.Errorf("%w: %.80q", errNoProc, line)
	}
	t, err := ticks([]string{fields[user], fields[nice], fields[system], fields[steal]})
	if err != nil {
		return 0, err
	}
	return t[0] + t[1] + t[2] + t[3], nil
}

// processMemory is what a process holds in memory, and the most that it ever
// held, in bytes.
func processMemory(pid int) (resident, peak int64, err error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status") //nolint:gosec // G703: a number is no path
	if err != nil {
		return 0, 0, errors.Join(errNoProc, err)
	}
	info := parseInfo(string(data))
	kb := func(name string) int64 {
		n, bad := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(info[name]), " kB"), 10, 64)
		err = errors.Join(err, bad)
		return n * 1024
	}
	return kb("VmRSS"), kb("VmHWM"), err
}

// familyMemory is what a process and its children hold in memory now, in bytes.
func familyMemory(pid int) (resident int64, err error) {
	resident, _, err = processMemory(pid)
	lists, globErr := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err = errors.Join(err, globErr); err != nil {
		return 0, err
	}
	for _, list := range lists {
		data, err := os.ReadFile(list) //nolint:gosec // G304: of the kernel's
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", list, err)
			}
			own, _, err := processMemory(child)
			if err != nil {
				return 0, err
			}
			resident += own
		}
	}
	return resident, nil
}
