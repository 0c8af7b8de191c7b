//go:build cgo

package main

// static int plus(int a, int b) { return a + b; }
import "C"

func init() {
	if C.plus(2, 3) != 5 {
		panic("C")
	}
}
