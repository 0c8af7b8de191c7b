// work THREADS CALLS [wait]: as work.c, with goroutines that let the collector run, too.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
)

//go:noescape
func work(x int64) int64

var stop int32
var kept []byte

func run(calls int64) uint64 {
	done := uint64(0)
	for n := int64(0); (calls < 0 && atomic.LoadInt32(&stop) == 0) || n < calls; n++ {
		if work(n) != 3*n {
			fmt.Println("wrong")
			os.Exit(1)
		}
		done++
		if n%4096 == 0 {
			kept = make([]byte, 65536)
			runtime.Gosched()
		}
	}
	return done
}

func main() {
	threads, _ := strconv.Atoi(os.Args[1])
	calls, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		calls = -1
	}
	var all uint64
	var group sync.WaitGroup
	for n := 0; n < threads; n++ {
		group.Add(1)
		go func() {
			atomic.AddUint64(&all, run(calls))
			group.Done()
		}()
	}
	var byte [1]byte
	if calls < 0 {
		os.Stdin.Read(byte[:])
		atomic.StoreInt32(&stop, 1)
	}
	group.Wait()
	fmt.Printf("%d calls\n", all)
	if len(os.Args) > 3 {
		os.Stdin.Read(byte[:])
	}
	os.Exit(7)
}
