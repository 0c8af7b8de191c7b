// busy WORKERS: goroutines that come and go, stacks that grow, panics, the collector, a profile and
// an HTTP server, for each line that is read, and all the time in so many workers; at the end how
// often each of some functions ran.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
)

var leafs, deeps, methods, generics, panics, served, bigs, mids uint64

//go:noinline
func leaf(a, b, c, d, e, f, g, h, i int, x float64) int {
	atomic.AddUint64(&leafs, 1)
	return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + int(x)
}

//go:noinline
func deep(n int) int {
	atomic.AddUint64(&deeps, 1)
	var a [100]byte
	a[n%100] = 1
	if n == 0 {
		return 0
	}
	return deep(n-1) + int(a[n%100])
}

//go:noinline
func big(n int) int {
	atomic.AddUint64(&bigs, 1)
	var a [20000]byte
	a[n%20000] = 1
	return int(a[(n*7)%20000])
}

//go:noinline
func mid(n int) int {
	atomic.AddUint64(&mids, 1)
	var a [400]byte
	a[n%400] = 1
	return int(a[(n*7)%400]) + big(n)
}

type T struct{ n int }

//go:noinline
func (t *T) method(by int) int {
	atomic.AddUint64(&methods, 1)
	t.n += by
	return t.n
}

type number interface{ ~int | ~float64 }

//go:noinline
func generic[N number](ns []N) N {
	atomic.AddUint64(&generics, 1)
	var sum N
	for _, n := range ns {
		sum += n
	}
	return sum
}

//go:noinline
func faults(p *int) int {
	atomic.AddUint64(&panics, 1)
	return *p
}

//go:noinline
func load(p *int) int { return *p }

//go:noinline
func spin(n int) (sum int) {
	for i := 0; i < n; i++ {
		sum += i ^ sum<<1
	}
	return
}

func recovers(p *int) (caught bool) {
	defer func() { caught = recover() != nil }()
	return faults(p)+load(p) == 1
}

func handle(w http.ResponseWriter, r *http.Request) {
	atomic.AddUint64(&served, 1)
	io.WriteString(w, "hi")
}

var kept [][]byte
var lock sync.Mutex

func round() int {
	sum := 0
	for n := 0; n < 200; n++ {
		want := n + 2*(n+1) + 3*3 + 4*4 + 5*5 + 6*6 + 7*7 + 8*8 + 9*9 + 2
		if got := leaf(n, n+1, 3, 4, 5, 6, 7, 8, 9, 2.5); got != want {
			panic(fmt.Sprint("leaf ", n, got, want))
		}
		t := &T{n}
		if t.method(3) != n+3 {
			panic("method")
		}
		sum += spin(1000)
	}
	if got := deep(3000); got != 3000 {
		panic(fmt.Sprint("deep ", got))
	}
	for n := 0; n < 20; n++ {
		mid(n)
		if generic([]int{n, 1}) != n+1 || generic([]float64{0.5, float64(n)}) != 0.5+float64(n) {
			panic("generic")
		}
		if !recovers(nil) {
			panic("not recovered")
		}
	}
	lock.Lock()
	if len(kept) > 100 {
		kept = nil
	}
	kept = append(kept, make([]byte, 20000))
	lock.Unlock()
	return sum
}

// The same all the time.
func always(stop *int32, group *sync.WaitGroup) {
	defer group.Done()
	for atomic.LoadInt32(stop) == 0 {
		round()
	}
}

// One round in each of a few new goroutines, and one request.
func told(address string) {
	var group sync.WaitGroup
	for j := 0; j < 8; j++ {
		group.Add(1)
		go func() {
			round()
			group.Done()
		}()
	}
	r, err := http.Get("http://" + address)
	if err != nil {
		panic(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil || string(b) != "hi" {
		panic("another answer")
	}
	r.Body.Close()
	group.Wait()
	runtime.GC()
}

func main() {
	workers, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	debug.SetGCPercent(5)
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(handle))
	var stop int32
	var group sync.WaitGroup
	for n := 0; n < workers; n++ {
		group.Add(1)
		go always(&stop, &group)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		told(listener.Addr().String())
		fmt.Println("done")
	}
	atomic.StoreInt32(&stop, 1)
	group.Wait()
	pprof.StopCPUProfile()
	if profile.Len() == 0 {
		panic("no profile")
	}
	fmt.Println("main.leaf", leafs)
	fmt.Println("main.deep", deeps)
	fmt.Println("main.big", bigs)
	fmt.Println("main.mid", mids)
	fmt.Println("main.(*T).method", methods)
	fmt.Println("main.generic", generics)
	fmt.Println("main.faults", panics)
	fmt.Println("main.handle", served)
	os.Exit(7)
}
