package main

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	own, children, err := parseStat("42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 7 3 20 0 9 0 100 0 0\n")
	if err != nil || own != 1750*time.Millisecond || children != 100*time.Millisecond {
		t.Errorf("%v, %v, %v", own, children, err)
	}
	for _, text := range []string{"", "42 (a) S 1", "42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 x 25 7 3 20"} {
		if _, _, err := parseStat(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("NOT TESTED: no /proc here")
	}
	for begin := time.Now(); ; {
		own, _, err := processCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if own > 0 {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("ten busy seconds took no time on a CPU")
		}
	}
	resident, peak, err := processMemory(os.Getpid())
	if err != nil || resident < 1<<20 || peak < resident {
		t.Errorf("resident %d, peak %d, %v", resident, peak, err)
	}
	if all, err := machineCPU(); err != nil || all <= 0 {
		t.Errorf("the machine: %v, %v", all, err)
	}
}

func TestParseInfo(t *testing.T) {
	info := parseInfo("# Stats\r\ntotal_reads_processed:17\r\n\r\n# CPU\r\nused_cpu_sys:1.5\r\nexecutable:/a:b\r\n")
	if info["total_reads_processed"] != "17" || info["used_cpu_sys"] != "1.5" || info["executable"] != "/a:b" {
		t.Errorf("%v", info)
	}
}

func TestParseCeiling(t *testing.T) {
	const out = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"MGET a b c","250000.00","1.5","0.1","1.25","3.0","4.5","9.0"
`
	w, err := parseCeiling([]byte(out), 500_000)
	if err != nil || w.took != 2*time.Second || w.checks != 500_000 || w.p50 != 1250*time.Microsecond || w.p99 != 4500*time.Microsecond {
		t.Errorf("%+v, %v", w, err)
	}
	for _, out := range []string{"", "\"test\",\"rps\"\n", "\"test\",\"rps\"\n\"MGET\",\"0\"\n", "Could not connect to Redis"} {
		if _, err := parseCeiling([]byte(out), 1); err == nil {
			t.Errorf("%q was accepted", out)
		}
	}
}
