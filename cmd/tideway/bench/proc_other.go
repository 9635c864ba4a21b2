//go:build !linux

package bench

import (
	"errors"
	"time"
)

// errNoClocks is what this system cannot tell.
var errNoClocks = errors.New("CPU time and memory of other processes are measured on Linux only")

func processTime(int) (time.Duration, error) { return 0, errNoClocks }
func threadTime(int) (time.Duration, error)  { return 0, errNoClocks }
func machineBusy() (time.Duration, error)    { return 0, errNoClocks }
func residentBytes(int) (int64, error)       { return 0, errNoClocks }
func kernelMemory() int64                    { return 0 }
