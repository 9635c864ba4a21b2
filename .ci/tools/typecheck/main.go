// Command typecheck checks the types of all packages and their tests here, as they
// are for other systems. It reads the dependencies' sources and compiles nothing,
// which takes a fraction of `go vet`'s time where nothing is cached.
//
//	typecheck darwin/arm64 windows/amd64
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: typecheck GOOS/GOARCH ...")
		os.Exit(2)
	}
	bad := 0
	for _, target := range os.Args[1:] {
		n, err := check(target)
		if err != nil {
			fmt.Fprintf(os.Stderr, "typecheck: %s: %v\n", target, err)
			os.Exit(2)
		}
		bad += n
	}
	if bad > 0 {
		os.Exit(1)
	}
}

// check prints what is wrong for one target, and returns how much that is.
func check(target string) (int, error) {
	system, arch, ok := strings.Cut(target, "/")
	if !ok {
		return 0, fmt.Errorf("want GOOS/GOARCH")
	}
	all, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax,
		Tests: true,
		Env:   append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0"),
	}, "./...")
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("there is no package here")
	}
	fmt.Printf("%s: %d packages\n", target, len(all))
	return packages.PrintErrors(all), nil
}
