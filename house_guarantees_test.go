package tideway_test

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

const guarantees = "docs/reference/guarantees.md"

var (
	namedTest  = regexp.MustCompile("`([a-z0-9/]+)` (Test\\w+)")
	namedRow   = regexp.MustCompile(`layertest “([^”]+)”`)
	boldPoint  = regexp.MustCompile(`(?m)^- \*\*([^*]+?)[,.:]?\*\*`)
	boldInRows = regexp.MustCompile(`(?m)^\| \*\*([^*]+?)[,.:]?\*\*`)
)

// testSources returns the tests of each folder, and in "layertest" the suite.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range tree(t, ".go") {
		folder := path.Dir(name)
		switch {
		case strings.HasSuffix(name, "_test.go"):
		case folder == "layer/layertest":
			folder = "layertest"
		default:
			continue
		}
		all[folder] += read(t, name)
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A promise without a test is a wish. Each row of the page names tests, and all
// that it names exist.
func TestGuaranteesAreHeld(t *testing.T) {
	sources := testSources(t)
	rows := 0
	for line := range strings.Lines(read(t, guarantees)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| promise |") {
			continue
		}
		rows++
		tests, suite := namedTest.FindAllStringSubmatch(line, -1), namedRow.FindAllStringSubmatch(line, -1)
		if len(tests)+len(suite) == 0 {
			t.Errorf("no test holds %s", line)
		}
		for _, m := range tests {
			if !strings.Contains(sources[m[1]], "\nfunc "+m[2]+"(t ") {
				t.Errorf("%s names %s in %s, which does not exist", guarantees, m[2], m[1])
			}
		}
		for _, m := range suite {
			if !strings.Contains(sources["layertest"], `{"`+m[1]+`", "`) {
				t.Errorf("%s names the row %q of layertest, which does not exist", guarantees, m[1])
			}
		}
	}
	if rows < 50 {
		t.Errorf("found %d rows; the test no longer understands the page", rows)
	}
}

// What the README and the limits promise, each point by its bold words, has a row.
func TestPromisesHaveGuarantees(t *testing.T) {
	held := map[string]bool{}
	for _, m := range boldInRows.FindAllStringSubmatch(read(t, guarantees), -1) {
		held[m[1]] = true
	}
	for page, title := range map[string]string{"README.md": "## What you can rely on", "docs/reference/limits.md": "## What is promised"} {
		_, section, found := strings.Cut(read(t, page), title+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		points := boldPoint.FindAllStringSubmatch(section, -1)
		if !found || len(points) == 0 {
			t.Errorf("%s has no section %q with points that begin in bold", page, title)
		}
		for _, m := range points {
			if point := m[1]; !held[point] && !held[point+" never overlap"] {
				t.Errorf("%s promises %q; name the test that holds it in a row of %s that begins with **%s**", page, point, guarantees, point)
			}
		}
	}
}
