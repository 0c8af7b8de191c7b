//go:build cgo

package main

// extern int callback(int);
// static int plus(int a, int b) { return a + b; }
// static int through(int n) { return callback(n) + 1; }
import "C"

// Runs on its goroutine's stack again, below what C has called from, and makes it grow.
//
//export callback
func callback(n C.int) C.int {
	callbackTold.in()
	n += C.int(deep(500))
	callbackTold.out()
	return n
}

func calls() {
	check("C", C.plus(2, 3) == 5 && C.through(20) == 521)
}
