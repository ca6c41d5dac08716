// Package probe reads CPU times and memory of the machine, of processes and of Redis.
package probe

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/procfs"
	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
)

// Clocks holds readings of clocks and counters, or their increase between two readings.
type Clocks struct {
	Wall    time.Duration
	Machine time.Duration // CPU time of all programs, plus the time that the host of this virtual machine took away
	Self    time.Duration // CPU time of this program and of its finished child processes
	Process time.Duration // CPU time of the measured server
	Redis   time.Duration // CPU time of Redis
	Reads   int           // how many times Redis read from a client connection; a pipeline that arrives in one piece counts once
}

// Read reads all clocks. Its own query adds 1 to Reads. If pid is 0, Read leaves Process at 0.
func Read(ctx context.Context, client *redis.Client, pid int) (c Clocks) {
	info := must.Get(client.InfoMap(ctx, "stats", "cpu").Result())
	for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
		c.Redis += seconds(must.Get(strconv.ParseFloat(info["CPU"][name], 64)))
	}
	c.Reads = must.Get(strconv.Atoi(info["Stats"]["total_reads_processed"]))
	all := must.Get(must.Get(procfs.NewDefaultFS()).Stat()).CPUTotal
	c.Machine = seconds(all.User + all.Nice + all.System + all.Steal)
	self := must.Get(must.Get(procfs.Self()).Stat())
	const userHZ = 100 // CUTime and CSTime are in 1/100 s on every architecture that Go runs on
	c.Self = seconds(self.CPUTime() + float64(self.CUTime+self.CSTime)/userHZ)
	if pid != 0 {
		c.Process = seconds(must.Get(must.Get(procfs.NewProc(pid)).Stat()).CPUTime())
	}
	c.Wall = time.Duration(time.Now().UnixNano())
	return c
}

// Add adds the increase between two readings to c.
func (c *Clocks) Add(from, to Clocks) {
	c.Wall += to.Wall - from.Wall
	c.Machine += to.Machine - from.Machine
	c.Self += to.Self - from.Self
	c.Process += to.Process - from.Process
	c.Redis += to.Redis - from.Redis
	c.Reads += to.Reads - from.Reads
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// RedisMemory returns the memory that Redis uses, in bytes.
func RedisMemory(ctx context.Context, client *redis.Client) float64 {
	info := must.Get(client.InfoMap(ctx, "memory").Result())
	return must.Get(strconv.ParseFloat(info["Memory"]["used_memory"], 64))
}

// Memory returns the resident memory of a process and the highest value that it ever had, in MB.
func Memory(pid int) (resident, peak float64) {
	status := must.Get(must.Get(procfs.NewProc(pid)).NewStatus())
	return float64(status.VmRSS) / 1e6, float64(status.VmHWM) / 1e6
}

// FamilyMemory returns the resident memory of a process and its children, in MB.
func FamilyMemory(pid int) (total float64) {
	for _, p := range must.Get(procfs.AllProcs()) {
		stat, err := p.Stat()
		if err != nil || p.PID != pid && stat.PPID != pid {
			continue // not a child of pid, or a process that has already ended
		}
		if status, err := p.NewStatus(); err == nil {
			total += float64(status.VmRSS) / 1e6
		}
	}
	return total
}

// FamilyCPU returns the CPU time of a process, of its children, and of those that have ended.
func FamilyCPU(pid int) (total time.Duration) {
	const userHZ = 100
	for _, p := range must.Get(procfs.AllProcs()) {
		stat, err := p.Stat()
		if err != nil || p.PID != pid && stat.PPID != pid {
			continue // not a child of pid, or a process that has already ended
		}
		total += seconds(stat.CPUTime() + float64(stat.CUTime+stat.CSTime)/userHZ)
	}
	return total
}

// Parent returns the id of a process's parent.
func Parent(pid int) int { return must.Get(must.Get(procfs.NewProc(pid)).Stat()).PPID }

// Machine describes this machine and the versions of Go, Redis and PostgreSQL.
func Machine(ctx context.Context, client *redis.Client, db *sql.DB) string {
	fs := must.Get(procfs.NewDefaultFS())
	var postgres string
	must.Do(db.QueryRowContext(ctx, "SHOW server_version").Scan(&postgres))
	return fmt.Sprintf("%s, Linux %s, %s %s/%s, Redis %s, PostgreSQL %s, %d cores",
		must.Get(fs.CPUInfo())[0].ModelName, must.Get(fs.SysctlStrings("kernel.osrelease"))[0], runtime.Version(), runtime.GOOS, runtime.GOARCH,
		client.InfoMap(ctx, "server").Item("Server", "redis_version"), postgres, runtime.NumCPU())
}
