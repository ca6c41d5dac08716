package probe

import (
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

func TestRead_CountsCPUTimeAndRedisReads(t *testing.T) {
	options, err := redis.ParseURL(redisstoretest.RealURL(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	before := Read(t.Context(), client, os.Getppid())
	for begin := time.Now(); time.Since(begin) < 10*time.Second; {
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		var spent Clocks
		if spent.Add(before, Read(t.Context(), client, os.Getppid())); spent.Self > 0 && spent.Machine > 0 && spent.Wall > 0 && spent.Redis > 0 && spent.Reads > 2 {
			return
		}
	}
	t.Error("no CPU time was counted while this program sent PING for 10 s")
}

func TestMemory_ReturnsMemoryOfThisProcess(t *testing.T) {
	resident, peak := Memory(os.Getpid())
	family := FamilyMemory(os.Getpid())
	if resident < 1 || peak < resident || family < resident-1 {
		t.Errorf("resident %.1f MB, peak %.1f, with children %.1f", resident, peak, family)
	}
}
