// goroutines WHAT ROUNDS: calls of functions on goroutines' stacks, which grow and are copied while
// the collector runs all the time; at the end how often each function was called and has returned,
// and on stderr how long some of them took at least and at most.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// What a function says of itself.
type counts struct {
	name            string
	calls, returned uint64
	least, most     int64
}

var all []*counts

func function(name string) *counts {
	all = append(all, &counts{name: name})
	return all[len(all)-1]
}

func (c *counts) in()  { atomic.AddUint64(&c.calls, 1) }
func (c *counts) out() { atomic.AddUint64(&c.returned, 1) }

// What a call took from outside, of which it slept so long.
func (c *counts) took(slept, all time.Duration) {
	atomic.AddInt64(&c.least, int64(slept))
	atomic.AddInt64(&c.most, int64(all))
}

var (
	deepTold     = function("main.deep")
	fibTold      = function("main.fib")
	evenTold     = function("main.even")
	oddTold      = function("main.odd")
	bigTold      = function("main.big")
	manyTold     = function("main.many")
	chooseTold   = function("main.choose")
	methodTold   = function("main.(*inner).method")
	genericTold  = function("main.generic")
	parkTold     = function("main.park")
	panicsTold   = function("main.panics")
	recoversTold = function("main.recovers")
	quitsTold    = function("main.quits")
	sleepsTold   = function("main.sleeps")
	handleTold   = function("main.handle")
	callbackTold = function("main.callback")
)

//go:noinline
func deep(n int) int {
	deepTold.in()
	var a [100]byte
	a[n%100] = 1
	r := 0
	if n > 0 {
		r = deep(n-1) + int(a[n%100])
	}
	deepTold.out()
	return r
}

//go:noinline
func fib(n int) int {
	fibTold.in()
	r := n
	if n > 1 {
		r = fib(n-1) + fib(n-2)
	}
	fibTold.out()
	return r
}

//go:noinline
func even(n int) bool {
	evenTold.in()
	r := n == 0 || odd(n-1)
	evenTold.out()
	return r
}

//go:noinline
func odd(n int) bool {
	oddTold.in()
	r := n != 0 && even(n-1)
	oddTold.out()
	return r
}

//go:noinline
func big(n int) int {
	bigTold.in()
	var a [20000]byte
	a[n%20000] = 1
	r := int(a[(n*7)%20000])
	bigTold.out()
	return r
}

//go:noinline
func many(a, b, c, d, e, f, g, h, i int, x, y float64, s string, p []int) (int, int, int, float64, string, []int) {
	manyTold.in()
	defer manyTold.out()
	return a + b + c, d + e + f, g + h + i, x - y, s + "!", append(p, a)
}

//go:noinline
func choose(n int) string {
	chooseTold.in()
	chooseTold.out()
	switch n {
	case 0:
		return "zero"
	case 1:
		return "one"
	case 2:
		return "two"
	case 3:
		return "three"
	case 4:
		return "four"
	case 5:
		return "five"
	case 6:
		return "six"
	case 7:
		return "seven"
	case 8:
		return "eight"
	}
	return "many"
}

type inner struct{ n int }

//go:noinline
func (t *inner) method(by int) int {
	methodTold.in()
	t.n += by
	methodTold.out()
	return t.n
}

// Its method is the inner one's, by a wrapper of the compiler's.
type outer struct {
	name string
	*inner
}

type adder interface{ method(int) int }

type number interface{ ~int | ~float64 }

//go:noinline
func generic[N number](ns []N) N {
	genericTold.in()
	var sum N
	for _, n := range ns {
		sum += n
	}
	genericTold.out()
	return sum
}

// Its goroutine is put aside in the middle, and goes on in any thread.
//
//go:noinline
func park(in, out chan int) int {
	parkTold.in()
	n := <-in
	runtime.Gosched()
	out <- n + 1
	parkTold.out()
	return n
}

//go:noinline
func panics(n int) int {
	panicsTold.in()
	var a [50]byte
	a[n%50] = 1
	if n == 0 {
		panic("as asked")
	}
	r := panics(n - int(a[n%50]))
	panicsTold.out()
	return r
}

//go:noinline
func recovers(n int) (caught bool) {
	recoversTold.in()
	defer func() {
		caught = recover() != nil
		// Where the lost frames were.
		deep(10)
		recoversTold.out()
	}()
	return panics(n) < 0
}

//go:noinline
func quits(n int) {
	quitsTold.in()
	if n == 0 {
		runtime.Goexit()
	}
	quits(n - 1)
	quitsTold.out()
}

//go:noinline
func sleeps(d time.Duration) {
	sleepsTold.in()
	time.Sleep(d)
	sleepsTold.out()
}

//go:noinline
func handle(w http.ResponseWriter, r *http.Request) {
	handleTold.in()
	io.WriteString(w, "hello "+r.URL.Path)
	handleTold.out()
}

func check(what string, ok bool) {
	if !ok {
		panic(what)
	}
}

// Everything but the server, in one goroutine.
func work(n int) {
	check("deep", deep(2000) == 2000)
	check("fib", fib(12) == 144)
	check("even", even(1001) == false && odd(77))
	check("big", big(n*20000) == 1)
	a, b, c, x, s, p := many(1, 2, 3, 4, 5, 6, 7, 8, n, 2.5, 0.25, "text", []int{n})
	check("many", a == 6 && b == 15 && c == 15+n && x == 2.25 && s == "text!" && p[0] == n)
	check("choose", choose(n%10) != "" && choose(7) == "seven" && choose(10) == "many")
	var t adder = &outer{"outer", &inner{n}}
	check("method", t.method(3) == n+3)
	check("generic", generic([]int{n, 1}) == n+1 && generic([]float64{0.5, 1}) == 1.5)
	in, out, parked := make(chan int), make(chan int), make(chan bool)
	go func() { in <- n }()
	go func() {
		park(in, out)
		close(parked)
	}()
	check("park", <-out == n+1)
	<-parked
	check("recovers", recovers(n%20))
	done := make(chan bool)
	go func() {
		defer close(done)
		quits(n % 7)
	}()
	<-done
	calls()
	begin := time.Now()
	sleeps(time.Millisecond)
	sleepsTold.took(time.Millisecond, time.Since(begin))
}

func server() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(handle))
	return "http://" + listener.Addr().String()
}

func ask(address string, n int) {
	path := "/" + strconv.Itoa(n)
	r, err := http.Get(address + path)
	if err != nil {
		panic(err)
	}
	b, err := io.ReadAll(r.Body)
	r.Body.Close()
	check("answer", err == nil && string(b) == "hello "+path)
}

func main() {
	rounds, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	debug.SetGCPercent(1)
	var stop int32
	var collector sync.WaitGroup
	collector.Add(1)
	go func() {
		defer collector.Done()
		for atomic.LoadInt32(&stop) == 0 {
			runtime.GC()
		}
	}()
	for round := 0; round < rounds; round++ {
		var group sync.WaitGroup
		address := ""
		if os.Args[1] == "serve" {
			address = server()
		}
		for n := 0; n < 50; n++ {
			group.Add(1)
			go func(n int) {
				defer group.Done()
				if address == "" {
					work(n)
				} else {
					ask(address, n)
				}
			}(n)
		}
		group.Wait()
	}
	atomic.StoreInt32(&stop, 1)
	collector.Wait()
	for _, c := range all {
		fmt.Println(c.name, c.calls, c.returned)
		if c.most != 0 {
			fmt.Fprintln(os.Stderr, "took", c.name, c.least, c.most)
		}
	}
	os.Exit(3)
}
