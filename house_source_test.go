package tideway_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// source parses the Go files of all modules of the repository.
func source(t *testing.T) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	fset, files := token.NewFileSet(), map[string]*ast.File{}
	for _, name := range tree(t, ".go") {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	return fset, files
}

// A note to oneself belongs in the tracker.
func TestNoUnfinishedBusiness(t *testing.T) {
	unfinished := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	fset, files := source(t)
	for _, f := range files {
		for _, group := range f.Comments {
			for _, c := range group.List {
				if word := unfinished.FindString(c.Text); word != "" {
					t.Errorf("%s: a comment says %s", fset.Position(c.Pos()), word)
				}
			}
		}
	}
}

// What a test needs, .ci/run installs; a test that does not run says nothing.
func TestNoSkippedTests(t *testing.T) {
	fset, files := source(t)
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) {
				t.Errorf("%s: %s.%s: no test skips", fset.Position(sel.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

// plainMethods implement well-known interfaces and need no words of their own.
var plainMethods = []string{"Error", "Unwrap", "Is", "As", "String", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText"}

func TestExportedNamesAreDocumented(t *testing.T) {
	fset, files := source(t)
	packageDoc := map[string]bool{}
	for name, f := range files {
		if !library(name, f) {
			continue
		}
		dir := name[:strings.LastIndex(name, "/")+1]
		packageDoc[dir] = packageDoc[dir] || f.Doc != nil
		for _, decl := range f.Decls {
			for _, bare := range undocumented(fset, decl) {
				t.Errorf("%s: %s has no doc comment", fset.Position(bare.Pos()), bare.Name)
			}
		}
	}
	for dir, has := range packageDoc {
		if !has {
			t.Errorf("the package in %q has no package comment", "./"+dir)
		}
	}
}

// library reports whether a file is part of a package that others import.
func library(name string, f *ast.File) bool {
	return !strings.HasSuffix(name, "_test.go") && f.Name.Name != "main" && !strings.HasPrefix(name, ".ci/")
}

// undocumented returns the exported names that decl declares without a comment.
// In a group of constants, variables or types, one comment may serve all.
func undocumented(fset *token.FileSet, decl ast.Decl) []*ast.Ident {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		hidden := !d.Name.IsExported() || d.Recv != nil &&
			(!ast.IsExported(receiver(d)) || slices.Contains(plainMethods, d.Name.Name))
		if !hidden && d.Doc == nil {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		var bare []*ast.Ident
		for _, spec := range d.Specs {
			bare = append(bare, undocumentedSpec(fset, spec, d.Doc != nil)...)
		}
		return bare
	}
	return nil
}

func undocumentedSpec(fset *token.FileSet, spec ast.Spec, groupDoc bool) []*ast.Ident {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		bare := undocumentedOptions(fset, s)
		if s.Name.IsExported() && !groupDoc && s.Doc == nil && s.Comment == nil {
			bare = append(bare, s.Name)
		}
		return bare
	case *ast.ValueSpec:
		if groupDoc || s.Doc != nil || s.Comment != nil {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(s.Names), func(n *ast.Ident) bool { return !n.IsExported() })
	}
	return nil
}

// undocumentedOptions returns the bare fields of an Options struct: each must
// say what it does and what its default is. A comment serves the fields of the
// lines that follow it, up to a blank line.
func undocumentedOptions(fset *token.FileSet, s *ast.TypeSpec) []*ast.Ident {
	st, ok := s.Type.(*ast.StructType)
	if !ok || !s.Name.IsExported() || !strings.HasSuffix(s.Name.Name, "Options") {
		return nil
	}
	var bare []*ast.Ident
	served := 0 // the line that the newest comment still serves
	for _, f := range st.Fields.List {
		line := fset.Position(f.Pos()).Line
		if f.Doc == nil && f.Comment == nil && line != served {
			bare = append(bare, f.Names...)
			continue
		}
		served = fset.Position(f.End()).Line + 1
	}
	return slices.DeleteFunc(bare, func(n *ast.Ident) bool { return !n.IsExported() })
}

// receiver returns the name of a method's type, without pointer and parameters.
func receiver(d *ast.FuncDecl) string {
	expr := d.Recv.List[0].Type
	for {
		switch x := expr.(type) {
		case *ast.StarExpr:
			expr = x.X
		case *ast.IndexExpr:
			expr = x.X
		case *ast.IndexListExpr:
			expr = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}
