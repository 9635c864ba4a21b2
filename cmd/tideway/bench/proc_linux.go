package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// The kernel's identifiers for the CPU clock of a process or a thread: its id,
// inverted, three bits to the left, with the kind of clock in the low bits
// (clock_getres(2); CPUCLOCK_SCHED is 2, CPUCLOCK_PERTHREAD_MASK is 4).
func processClock(pid int) int { return ^pid<<3 | 2 }
func threadClock(tid int) int  { return ^tid<<3 | 6 }

func readClock(id int) (time.Duration, error) {
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, errno
	}
	return time.Duration(ts.Nano()), nil
}

// processTime returns the user and system time that a process used, to the
// nanosecond.
func processTime(pid int) (time.Duration, error) {
	d, err := readClock(processClock(pid))
	if err != nil {
		return 0, fmt.Errorf("the CPU clock of process %d: %w", pid, err)
	}
	return d, nil
}

func threadTime(tid int) (time.Duration, error) { return readClock(threadClock(tid)) }

// machineBusy returns the time for which the processors were not idle, all
// together; to the hundredth of a second.
func machineBusy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	ticks := int64(0)
	for i, f := range fields[1:9] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 { // idle, and waiting for a disk
			ticks += v
		}
	}
	return time.Duration(ticks) * (time.Second / 100), nil
}

// kernelMemory returns what the kernel's own objects take: sockets, files, epoll
// items. It is the whole machine's.
func kernelMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "Slab:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(fields[0], 10, 64) // 0 when it is no number
	return kb << 10
}

// residentBytes returns the memory of a process that is in RAM.
func residentBytes(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(b), "VmRSS:")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("/proc/%d/status names no VmRSS", pid)
	}
	kb, err := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10, err
}
