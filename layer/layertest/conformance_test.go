package layertest

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	root  = "../.."
	cases = 116
)

var (
	caseRow   = regexp.MustCompile(`^\| (\d+) \| ([^|]+) \| ([^|]+) \|$`)
	suiteRow  = regexp.MustCompile(`“([^”]+)”`)
	namedTest = regexp.MustCompile("`([a-z0-9/]+)` (Test\\w+)")
)

// testsOf returns the source of a folder's tests.
func testsOf(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// Every behaviour has a test that exists, or a reason.
func TestConformanceTableIsComplete(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/reference/conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	suite := map[string]bool{}
	for _, r := range rows() {
		suite[r.name] = true
	}
	seen := map[int]bool{}
	for line := range strings.Lines(string(text)) {
		m := caseRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		n, _ := strconv.Atoi(m[1])
		if seen[n] {
			t.Errorf("case %d is there twice", n)
		}
		seen[n] = true
		checkHolders(t, n, m[3], suite)
	}
	for n := 1; n <= cases; n++ {
		if !seen[n] {
			t.Errorf("case %d is missing", n)
		}
	}
}

// checkHolders checks that what is said to hold a case exists.
func checkHolders(t *testing.T, n int, held string, suite map[string]bool) {
	t.Helper()
	holders := 0
	if strings.Contains(held, "layertest") {
		for _, m := range suiteRow.FindAllStringSubmatch(held, -1) {
			holders++
			if !suite[m[1]] {
				t.Errorf("case %d names the row %q, which the suite does not have", n, m[1])
			}
		}
	}
	for _, m := range namedTest.FindAllStringSubmatch(held, -1) {
		holders++
		if !strings.Contains(testsOf(t, m[1]), "\nfunc "+m[2]+"(") {
			t.Errorf("case %d names %s in %s, which does not exist", n, m[2], m[1])
		}
	}
	if holders == 0 && !strings.Contains(held, "No meaning here:") && !strings.Contains(held, "Not in this version:") {
		t.Errorf("case %d has neither a test nor a reason: %s", n, held)
	}
}
