package tideway_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tideway-go/tideway"

// pkg is what `go list -json` says about a package.
type pkg struct {
	ImportPath                         string
	Standard                           bool
	Imports, TestImports, XTestImports []string
}

// folder returns the package's place below the root: "layer/natsbus".
func (p pkg) folder() string { return below(p.ImportPath) }

// below cuts the module's path off an import path; a package of another module
// has none.
func below(importPath string) string {
	if importPath == module {
		return "."
	}
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	return rest
}

// within reports whether folder is one of roots or lies below one.
func within(folder string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return folder == root || strings.HasPrefix(folder, root+"/")
	})
}

// list asks the go command for all packages of the module and whatever they
// import, on one operating system: some files are built on Linux alone.
func list(t *testing.T, goos string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("output of %s: %v", cmd, err)
		}
		all = append(all, p)
	}
	return all
}

// rule says what the packages below some folders may import.
type rule struct {
	name   string
	of     func(folder string) bool
	allows func(importPath string, standard bool) bool
}

// rules are the directions of the house: router -> consumer -> layer, and each
// third-party library has one door.
var rules = []rule{
	{
		"the layer imports the standard library only, and of its own module nothing outside layer",
		func(f string) bool {
			return f == "layer" || within(f, "layer/membus", "layer/layertest", "layer/internal")
		},
		func(imp string, std bool) bool { return std || within(below(imp), "layer") },
	},
	{
		"a bus knows the layer, and neither consumers nor routers",
		func(f string) bool { return within(f, "layer") },
		func(imp string, _ bool) bool { return below(imp) == "" || within(below(imp), "layer") },
	},
	{
		"consumers import the standard library and the layer only",
		func(f string) bool { return f == "consumer" },
		func(imp string, std bool) bool { return std || within(below(imp), "layer", "consumer") },
	},
	{
		"the router imports the standard library, consumer and layer only",
		func(f string) bool {
			return f == "router" || within(f, "router/internal") && !within(f, "router/internal/socket")
		},
		func(imp string, std bool) bool { return std || within(below(imp), "layer", "consumer", "router") },
	},
	{
		"the socket engine imports coder/websocket and golang.org/x/sys beside the standard library, and no layer",
		func(f string) bool { return within(f, "router/internal/socket") },
		func(imp string, std bool) bool {
			return std || within(below(imp), "consumer", "router/internal") ||
				within(imp, "github.com/coder/websocket", "golang.org/x/sys")
		},
	},
	{
		"only the socket engine, the client and consumertest import coder/websocket",
		func(f string) bool {
			return !within(f, "router/internal/socket", "consumer/client", "consumer/consumertest")
		},
		func(imp string, _ bool) bool { return !within(imp, "github.com/coder/websocket") },
	},
	{
		"only natsbus, the programs and the examples import NATS",
		func(f string) bool { return !within(f, "layer/natsbus", "cmd", "examples") },
		func(imp string, _ bool) bool { return !strings.HasPrefix(imp, "github.com/nats-io/") },
	},
	{
		"only the programs import cobra",
		func(f string) bool { return !within(f, "cmd") },
		func(imp string, _ bool) bool { return !strings.HasPrefix(imp, "github.com/spf13/") },
	},
	{
		"nothing imports cmd or examples, except the programs themselves",
		func(f string) bool { return !within(f, "cmd", "examples") },
		func(imp string, _ bool) bool { return !within(below(imp), "cmd", "examples") },
	},
	{
		"an example imports no program",
		func(f string) bool { return within(f, "examples") },
		func(imp string, _ bool) bool { return !within(below(imp), "cmd") },
	},
}

func TestImportDirections(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		all := list(t, goos)
		standard := map[string]bool{"C": true}
		for _, p := range all {
			standard[p.ImportPath] = p.Standard
		}
		for _, p := range all {
			if p.folder() == "" {
				continue
			}
			for _, r := range rules {
				if !r.of(p.folder()) {
					continue
				}
				for _, imp := range p.Imports {
					if !r.allows(imp, standard[imp]) {
						t.Errorf("%s: %s imports %s, but %s", goos, p.ImportPath, imp, r.name)
					}
				}
			}
		}
	}
}

// Tests may use any part of the library, to try it whole; the programs and
// examples stay out of them all the same.
func TestTestsImportNoProgram(t *testing.T) {
	for _, p := range list(t, "linux") {
		if p.folder() == "" || within(p.folder(), "cmd", "examples") {
			continue
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			if within(below(imp), "cmd", "examples") {
				t.Errorf("the tests of %s import %s", p.ImportPath, imp)
			}
		}
	}
}

func TestTopLevelFolders(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			got = append(got, e.Name())
		}
	}
	want := []string{"cmd", "consumer", "docs", "examples", "layer", "router"}
	if !slices.Equal(got, want) {
		t.Errorf("top-level folders: got %q, want %q", got, want)
	}
}

func TestLicence(t *testing.T) {
	text, err := os.ReadFile("LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("LICENSE does not contain %q", want)
		}
	}
}

// tree returns the slash paths of the files whose names end in one of the
// suffixes, in all modules of the repository.
func tree(t *testing.T, suffixes ...string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		if e.IsDir() {
			if slices.Contains([]string{".git", ".ci/out"}, p) || e.Name() == "testdata" || e.Name() == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		if slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(p, s) }) {
			files = append(files, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A path of the machine that a file was written on helps nobody else.
func TestNoMachinePaths(t *testing.T) {
	var mine []string
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// A checkout at the top of the file system has a name that is a word.
	if strings.Count(filepath.ToSlash(root), "/") > 1 {
		mine = append(mine, root)
	}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		mine = append(mine, home+string(filepath.Separator))
	}
	for _, file := range tree(t, ".go", ".md", ".mod", ".html", ".js", ".mjs", ".ts", ".css", ".sh", ".bash", ".py", ".txtar", ".conf", ".yaml", ".json", "Caddyfile", ".ci/run") {
		if path.Base(file) == "LICENSE" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range mine {
			if i := bytes.Index(text, []byte(p)); i >= 0 {
				t.Errorf("%s:%d: contains %s, a path of this machine", file, 1+bytes.Count(text[:i], []byte("\n")), p)
			}
		}
	}
}
