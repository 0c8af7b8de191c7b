//go:build !cgo

package main

func calls() {}
