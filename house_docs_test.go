package tideway_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// block is a piece of code in a page.
type block struct {
	page  string
	line  int // of its first line
	lines []string
}

// blocks finds the fenced blocks that say they are of a language.
func blocks(page, text, language string) []block {
	var found []block
	var open *block
	for i, raw := range strings.Split(text, "\n") {
		line := strings.TrimSpace(raw)
		switch {
		case open == nil && line == "```"+language:
			open = &block{page: page, line: i + 2}
		case open != nil && strings.HasPrefix(line, "```"):
			found = append(found, *open)
			open = nil
		case open != nil && line != "":
			open.lines = append(open.lines, line)
		}
	}
	return found
}

// squeeze returns the lines that are not blank, without the space around them.
func squeeze(text string) []string {
	var lines []string
	for raw := range strings.Lines(text) {
		if line := strings.TrimSpace(raw); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// match returns how many of want's lines follow each other in have, at most,
// and the line that stands where the next one should.
func match(have, want []string) (n int, instead string) {
	for i := range have {
		k := 0
		for k < len(want) && i+k < len(have) && have[i+k] == want[k] {
			k++
		}
		if k > n {
			n, instead = k, "the end of the file"
			if i+k < len(have) {
				instead = have[i+k]
			}
		}
	}
	return n, instead
}

// Code in a page that no compiler reads grows wrong. Each block of Go stands,
// line by line, in a Go file of this repository; indentation and blank lines
// are free.
func TestGoInPagesIsCompiled(t *testing.T) {
	checkBlocks(t, "go", ".go")
}

// Nor does a page have bash, but for single commands, that is no script of this
// repository: those are checked by shellcheck, and tried.
func TestBashInPagesIsScripts(t *testing.T) {
	checkBlocks(t, "bash", ".sh")
}

func checkBlocks(t *testing.T, language, suffix string) {
	t.Helper()
	code := map[string][]string{}
	for _, name := range tree(t, suffix) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "//go:build ignore") {
			code[name] = squeeze(string(text))
		}
	}
	for _, page := range tree(t, ".md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks(page, string(text), language) {
			if miss := b.missing(code); miss != "" {
				t.Errorf("%s:%d: this block is in no %s file of the tree; %s", b.page, b.line, suffix, miss)
			}
		}
	}
}

// missing returns "" when b stands in one of the files, else where it fits best.
func (b block) missing(code map[string][]string) string {
	best, where, instead := 0, "", ""
	for name, have := range code {
		n, other := match(have, b.lines)
		if n == len(b.lines) {
			return ""
		}
		if n > best {
			best, where, instead = n, name, other
		}
	}
	if best == 0 {
		return fmt.Sprintf("not even its first line: %q", b.lines[0])
	}
	return fmt.Sprintf("%d of its %d lines are in %s, which has %q where the page has %q",
		best, len(b.lines), where, instead, b.lines[best])
}

func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 150 {
		t.Errorf("README.md has %d lines, want at most 150: it is a map, not the land", n)
	}
	for _, want := range []string{"go run ./cmd/tideway demo", "go test ./..."} {
		if !strings.Contains(string(text), want) {
			t.Errorf("README.md does not show the command %q", want)
		}
	}
}
