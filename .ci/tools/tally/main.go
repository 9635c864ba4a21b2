// Command tally reads what `go test -json` writes, shows what `go test` would
// have shown, and keeps count.
//
//	go test -json ./... | tally -add counts    # one line more in the file counts
//	tally -sum counts                          # "N passed, M failed", exit 1 if M > 0
//
// A test that skips counts as failed: nothing here may skip. Below the output
// stand the tests that took longest, since the whole has to stay short.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	add := flag.String("add", "", "read events from stdin, append their counts to this `file`")
	sum := flag.String("sum", "", "print the sum of the counts in this `file`")
	flag.Parse()
	var failed int
	var err error
	switch {
	case *add != "":
		failed, err = addCounts(*add, os.Stdin, os.Stdout)
	case *sum != "":
		failed, err = sumCounts(*sum, os.Stdout)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string

	Elapsed float64 // seconds
}

// counter holds the output of tests that have not ended.
type counter struct {
	passed, failed int
	out            io.Writer
	pending        map[string]*strings.Builder
	failedTests    map[string]bool // packages in which a test failed
	slow           []event         // the ends of tests that took long
}

func addCounts(file string, in io.Reader, out io.Writer) (failed int, err error) {
	c := &counter{out: out, pending: map[string]*strings.Builder{}, failedTests: map[string]bool{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			c.take(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	c.showSlow()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	fmt.Fprintln(f, c.passed, c.failed)
	return c.failed, f.Close()
}

// take counts one event. What is no event goes to the output as it is: the go
// command's own complaints.
func (c *counter) take(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		fmt.Fprint(c.out, line)
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "output":
		c.output(key, e)
	case "pass":
		delete(c.pending, key)
		if e.Test != "" {
			c.passed++
		}
		if e.Test != "" && e.Elapsed >= slowTest {
			c.slow = append(c.slow, e)
		}
	case "fail":
		c.fail(key, e)
	case "skip":
		if e.Test != "" { // else: a package without tests
			c.fail(key, e)
			fmt.Fprintf(c.out, "%s %s was skipped, which counts as a failure\n", e.Package, e.Test)
		}
	}
}

const (
	slowTest  = 5 // seconds
	slowShown = 12
)

// showSlow shows which tests took longest. A parallel test's time has that in it
// for which it was held up.
func (c *counter) showSlow() {
	slices.SortFunc(c.slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range c.slow[:min(len(c.slow), slowShown)] {
		fmt.Fprintf(c.out, "slow: %6.1f s %s %s\n", e.Elapsed, e.Package, e.Test)
	}
}

// output keeps a test's words until it has ended, and shows a package's.
func (c *counter) output(key string, e event) {
	if e.Test == "" {
		if e.Output != "PASS\n" && e.Output != "FAIL\n" {
			fmt.Fprint(c.out, e.Output)
		}
		return
	}
	b := c.pending[key]
	if b == nil {
		b = new(strings.Builder)
		c.pending[key] = b
	}
	b.WriteString(e.Output)
}

// fail counts a failed test, or a package that failed though no test of it did:
// it does not compile, or its TestMain failed.
func (c *counter) fail(key string, e event) {
	if e.Test == "" {
		c.unfinished(e.Package)
	}
	if e.Test == "" && c.failedTests[e.Package] {
		return
	}
	c.failed++
	c.failedTests[e.Package] = true
	if b := c.pending[key]; b != nil {
		fmt.Fprint(c.out, b.String())
		delete(c.pending, key)
	}
}

// unfinished shows what the tests said that were running when their package
// came to an end: a panic, or the time limit.
func (c *counter) unfinished(pkg string) {
	for key, b := range c.pending {
		if strings.HasPrefix(key, pkg+" ") {
			fmt.Fprint(c.out, b.String())
			delete(c.pending, key)
		}
	}
}

func sumCounts(file string, out io.Writer) (failed int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var passed int
	for {
		var p, n int
		if _, err := fmt.Fscan(f, &p, &n); err == io.EOF {
			break
		} else if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		passed += p
		failed += n
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", passed, failed)
	return failed, nil
}
