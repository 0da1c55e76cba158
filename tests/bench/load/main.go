// A load generator: clients that make calls for a while, and what they saw, as one line of JSON.
//
// main.go decides when which call is made and measures; raftd.go and etcd.go each know how to make
// one. It is built twice, with one of the two:
//
//	go build -o raftd-load main.go raftd.go
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o etcd-load main.go etcd.go
package main

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const clockTicks = 100 // USER_HZ: the unit of /proc/PID/stat on every Linux

// session is one connection to one node. call returns when the answer is there.
type session interface {
	put(key string) error
	get(key string) error
	close()
}

var (
	target      = flag.String("target", "", "the node: a socket's path or HOST:PORT")
	operation   = flag.String("operation", "put", "put or get")
	clients     = flag.Int("clients", 1, "connections with one call in flight each")
	pipeline    = flag.Int("pipeline", 0, "instead: calls in flight on one connection")
	size        = flag.Int("size", 128, "bytes of a value")
	keys        = flag.Uint64("keys", 10000, "different keys")
	warm        = flag.Duration("warm", 300*time.Millisecond, "before the measurement")
	duration    = flag.Duration("duration", 2*time.Second, "of the measurement")
	connections = flag.Int("connections", 0, "clients share this many (etcd)")
	operations  = flag.Uint64("operations", 0, "this many calls, on one key after the other; -duration is the most they may take")
	pids        = flag.String("pids", "", "processes whose CPU time is wanted, with commas between")
)

// seen is what one client saw: the durations of the calls that ended in the measured time.
type seen struct {
	nanoseconds []int64
	errors      int
	firstError  error
}

// load is shared by all clients of a run.
type load struct {
	get        bool
	begin, end time.Time
	issued     uint64
	dice       uint64
}

// next is the next call's key; false when there is none any more.
func (l *load) next(now time.Time) (string, bool) {
	number := atomic.AddUint64(&l.issued, 1) - 1
	if *operations > 0 {
		return fmt.Sprintf("key%09d", number%*keys), number < *operations && now.Before(l.end)
	}
	// splitmix64: any order will do, as long as it is not that of the keys
	number = (number + l.dice) * 0x9e3779b97f4a7c15
	number = (number ^ number>>30) * 0xbf58476d1ce4e5b9
	number = (number ^ number>>27) * 0x94d049bb133111eb
	return fmt.Sprintf("key%09d", (number^number>>31)%*keys), now.Before(l.end)
}

// record is called with each answer, by the client that got it.
func (l *load) record(s *seen, start time.Time, err error) {
	now := time.Now()
	if err != nil {
		s.errors++
		if s.firstError == nil {
			s.firstError = err
		}
		return
	}
	if *operations > 0 || (!now.Before(l.begin) && !now.After(l.end)) {
		s.nanoseconds = append(s.nanoseconds, now.Sub(start).Nanoseconds())
	}
}

// one is a client with one call in flight.
func (l *load) one(s session, result *seen) {
	for {
		start := time.Now()
		key, more := l.next(start)
		if !more {
			return
		}
		var err error
		if l.get {
			err = s.get(key)
		} else {
			err = s.put(key)
		}
		l.record(result, start, err)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // a node in trouble is not to be hammered
		}
	}
}

func main() {
	flag.Parse()
	value := make([]byte, *size)
	if _, err := rand.Read(value); err != nil {
		fail(err)
	}
	setValue(value)
	count := *clients
	if *pipeline > 0 {
		count = 1
	}
	sessions := make([]session, count)
	for number := range sessions {
		var err error
		if sessions[number], err = dial(*target, number); err != nil {
			fail(err)
		}
	}
	seed := make([]byte, 2)
	rand.Read(seed)
	if *operations > 0 {
		*warm = 0
	}
	begin := time.Now().Add(*warm)
	l := &load{
		get: *operation == "get", begin: begin, end: begin.Add(*duration),
		dice: uint64(seed[0])<<32 + uint64(seed[1])<<24,
	}
	results := make([]seen, count)
	var running sync.WaitGroup
	for number := range sessions {
		running.Add(1)
		go func(number int) {
			defer running.Done()
			if *pipeline > 0 {
				l.pipelined(sessions[number], *pipeline, &results[number])
			} else {
				l.one(sessions[number], &results[number])
			}
		}(number)
	}
	time.Sleep(time.Until(l.begin))
	before := usageNow()
	if *operations > 0 {
		running.Wait()
		l.end = time.Now() // nobody else reads it any more
	} else {
		time.Sleep(time.Until(l.end))
	}
	after := usageNow()
	running.Wait()
	for _, s := range sessions {
		s.close()
	}
	report(l, results, before, after)
}

func report(l *load, results []seen, before, after usage) {
	all := []int64{}
	errors, firstError := 0, ""
	for _, result := range results {
		all = append(all, result.nanoseconds...)
		errors += result.errors
		if firstError == "" && result.firstError != nil {
			firstError = result.firstError.Error()
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	quantile := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[int(q*float64(len(all)-1))]) / 1e6
	}
	servers := make([]float64, len(before.servers))
	for number := range servers {
		servers[number] = after.servers[number] - before.servers[number]
	}
	text, err := json.Marshal(map[string]interface{}{
		"operations": len(all), "seconds": l.end.Sub(l.begin).Seconds(),
		"p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "max_ms": quantile(1),
		"errors": errors, "first_error": firstError,
		"server_cpu_s": servers, "generator_cpu_s": after.own - before.own,
		"machine_cpu_s": after.machine - before.machine,
	})
	if err != nil {
		fail(err)
	}
	fmt.Println(string(text))
}

// usage is CPU time used so far, in seconds: by this process, each server, and everybody.
type usage struct {
	own     float64
	servers []float64
	machine float64
}

func usageNow() usage {
	var u usage
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		fail(err)
	}
	u.own = float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9
	for _, pid := range strings.FieldsFunc(*pids, func(c rune) bool { return c == ',' }) {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			fail(err)
		}
		// proc(5): utime and stime are fields 14 and 15; the name, field 2, may have blanks
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		u.servers = append(u.servers, ticks(fields[11])+ticks(fields[12]))
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		fail(err)
	}
	for number, field := range strings.Fields(strings.SplitN(string(text), "\n", 2)[0])[1:] {
		if number < 8 && number != 3 && number != 4 { // neither idle nor iowait
			u.machine += ticks(field)
		}
	}
	return u
}

func ticks(field string) float64 {
	number, err := strconv.ParseFloat(field, 64)
	if err != nil {
		fail(err)
	}
	return number / clockTicks
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
