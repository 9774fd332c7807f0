// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Budgets of style.md: a file above fileBudget lines has become two.
const fileBudget = 800

const header = "// SPDX-FileCopyrightText: The kogge authors\n// SPDX-License-Identifier: Apache-2.0\n"

// bannedNames are package names that say nothing.
var bannedNames = []string{"util", "utils", "common", "helper", "helpers", "types", "base", "misc", "config", "options"}

// TestFiles checks headers, sizes and package names.
func TestFiles(t *testing.T) {
	top := root(t)
	sources(t, func(file string) {
		text, err := os.ReadFile(filepath.Join(top, file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), header) && !strings.HasPrefix(string(text), "//go:build") {
			t.Errorf("%s: begin with the two SPDX lines", file)
		}
		if lines := strings.Count(string(text), "\n"); lines > fileBudget {
			t.Errorf("%s: %d lines; split it by concept (budget %d)", file, lines, fileBudget)
		}
		if name := filepath.Base(filepath.Dir(file)); slices.Contains(bannedNames, name) {
			t.Errorf("%s: package name %q says nothing; name what it owns", file, name)
		}
	})
}

// TestPackageComments wants exactly one package comment per package, and no init functions.
func TestPackageComments(t *testing.T) {
	top := root(t)
	comments := map[string][]string{}
	packages := map[string]bool{}
	sources(t, func(file string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, file), nil, parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		dir := filepath.Dir(file)
		packages[dir] = true
		if parsed.Doc != nil && !strings.HasPrefix(parsed.Doc.Text(), "SPDX") {
			comments[dir] = append(comments[dir], file)
		}
		for _, decl := range parsed.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: no init functions; wiring is code", file)
			}
		}
	})
	for dir := range packages {
		switch found := comments[dir]; {
		case len(found) == 0:
			t.Errorf("%s: no package comment", dir)
		case len(found) > 1:
			t.Errorf("%s: package comment in %s; keep one", dir, strings.Join(found, " and "))
		}
	}
}

// TestSkips wants every skip to go through internal/need, which turns it into a failure under CI.
func TestSkips(t *testing.T) {
	top := root(t)
	sources(t, func(file string) {
		if filepath.Dir(file) == filepath.Join("internal", "need") {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, file), nil, 0)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		if !slices.ContainsFunc(parsed.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing"` }) {
			return
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) {
				t.Errorf("%s: a test is skipped where CI does not see it; say what it needs by internal/need", file)
			}
			return true
		})
	})
}

// TestKubernetesVersion holds every k8s.io module that follows the Kubernetes version at v0.36.
func TestKubernetesVersion(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "all")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -m all: %v", err)
	}
	others := []string{"k8s.io/klog/v2", "k8s.io/kube-openapi", "k8s.io/utils", "k8s.io/gengo/v2", "k8s.io/gengo"}
	seen := 0
	for line := range strings.Lines(string(out)) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(path, "k8s.io/") || slices.Contains(others, path) {
			continue
		}
		seen++
		if !strings.HasPrefix(version, "v0.36.") {
			t.Errorf("%s is at %s; one module off v0.36 changes the wire types", path, version)
		}
	}
	if seen < 10 {
		t.Errorf("only %d k8s.io modules in go list -m all", seen)
	}
}

// TestModulesFollow holds that the modules which build on kogge's own name all that kogge needs: they do not notice by themselves when that changes.
func TestModulesFollow(t *testing.T) {
	found := 0
	err := filepath.WalkDir(filepath.Join(root(t), "test"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "go.mod" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte("kogge.dev/kogge => ../..")) {
			return err
		}
		found++
		cmd := exec.CommandContext(t.Context(), "go", "list", "-mod=readonly", "-deps", "-test", "./...")
		cmd.Dir = filepath.Dir(path)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go list in %s: %v\n%s", cmd.Dir, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 3 {
		t.Errorf("only %d modules build on kogge's own", found)
	}
}

// TestClosure holds what the binary links: none of what this project exists to write.
func TestClosure(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/kogge")
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps ./cmd/kogge: %v", err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 500 {
		t.Fatalf("closure has only %d packages", len(packages))
	}
	for _, pkg := range packages {
		if pkg == "k8s.io/apiserver/pkg/endpoints/request" {
			continue // dragged in by the CEL and audit packages
		}
		for _, f := range forbidden {
			if pkg == f || strings.HasPrefix(pkg, f+"/") {
				t.Errorf("the binary links %s", pkg)
			}
		}
	}
}
