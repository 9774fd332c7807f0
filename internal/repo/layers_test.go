// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "kogge.dev/kogge"

// layers is the floor plan: a package belongs to the entry with the longest matching path. It imports entries of lower
// levels, and its own subtree.
var layers = []struct {
	path  string
	level int
}{
	{"cmd", 10},
	{"cli", 9},
	{"cluster", 8},
	{"testcluster", 8},
	{"cluster/control", 7},
	{"cluster/node", 7},
	{"apiserver", 6},
	{"controllers", 6},
	{"cloud", 6},
	{"scheduler", 6},
	{"kubelet", 6},
	{"proxy", 6},
	{"netpol", 6},
	{"cni", 6},
	{"dns", 6},
	{"metrics", 6},
	{"reconcile", 5},
	{"store", 4},
	{"client", 4},
	{"cri", 4},
	{"csi", 4},
	{"hostnet", 4},
	{"ledger", 4},
	{"nft/kernel", 4},
	{"scheduler/core", 3},
	{"scheduler/plugins", 3},
	{"kubelet/pod", 3},
	{"proxy/rules", 3},
	{"netpol/rules", 3},
	{"cni/ipam", 3},
	{"rules", 3},
	// Pure functions over wire types that the kinds need themselves (status.qosClass is set on create).
	{"rules/qos", 1},
	{"rules/podresource", 1},
	{"kinds", 2},
	{"nft", 1},
	{"codec", 1},
	{"patch", 1},
	{"expr", 1},
	{"internal", 0},
	{"sim", 11},
	{"test", 11},
}

// sameLevel lists the imports between packages of one level that are allowed, with the reason.
var sameLevel = map[[2]string]string{
	{"ledger", "hostnet"}:                   "an undo deletes links, addresses and routes and sets sysctls back",
	{"ledger", "nft/kernel"}:                "an undo deletes nftables tables",
	{"scheduler/plugins", "scheduler/core"}: "plugins implement the contract of the cycle",
	{"scheduler/core", "rules"}:             "the claims behind a pod's volumes",
	{"scheduler/plugins", "rules"}:          "taints and other shared rules decide placement",
}

// root finds the top of the checkout.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above " + dir)
		}
		dir = parent
	}
}

// sources calls fn for every Go file of the product module, with its path relative to the root.
func sources(t *testing.T, fn func(path string)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, path)
		if entry.IsDir() {
			name := entry.Name()
			if rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && rel != "." {
				return filepath.SkipDir // a module of its own
			}
			return nil
		}
		if strings.HasSuffix(path, ".go") {
			fn(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func layerOf(pkg string) (path string, level int, ok bool) {
	for _, l := range layers {
		if (pkg == l.path || strings.HasPrefix(pkg, l.path+"/")) && len(l.path) > len(path) {
			path, level, ok = l.path, l.level, true
		}
	}
	return path, level, ok
}

// TestLayers holds the import law of docs/design/architecture.md.
func TestLayers(t *testing.T) {
	top := root(t)
	sources(t, func(file string) {
		pkg := filepath.Dir(file)
		if strings.HasSuffix(file, "_test.go") {
			return // tests may compose what they need
		}
		from, level, ok := layerOf(pkg)
		if !ok {
			t.Errorf("%s: folder is not on the floor plan; add it to layers in internal/repo with its level", file)
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		for _, spec := range parsed.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			inner, ours := strings.CutPrefix(target, module+"/")
			if !ours {
				continue
			}
			to, below, ok := layerOf(inner)
			switch {
			case !ok:
				t.Errorf("%s imports %s, which is not on the floor plan", file, inner)
			case below < level, to == from && sameTree(from, pkg, inner):
			case sameLevelAllowed(pkg, inner, from, to):
			default:
				t.Errorf("%s (%s, level %d) imports %s (%s, level %d); engines meet through client, shared logic is a pure package in rules/",
					file, from, level, inner, to, below)
			}
		}
	})
}

// sameTree reports whether an import stays inside one component. Controllers and rules are many components under one
// folder: they never import a sibling.
func sameTree(layer, pkg, target string) bool {
	if layer != "controllers" {
		return true
	}
	first := func(p string) string {
		parts := strings.SplitN(p, "/", 3)
		return parts[min(1, len(parts)-1)]
	}
	return first(pkg) == first(target)
}

func sameLevelAllowed(pkg, inner, from, to string) bool {
	for _, pair := range [][2]string{{pkg, inner}, {from, to}, {pkg, to}, {from, inner}} {
		if _, ok := sameLevel[pair]; ok {
			return true
		}
	}
	return false
}

// forbidden are upstream packages that this project exists to write itself.
var forbidden = []string{
	"k8s.io/kubernetes", "k8s.io/endpointslice", "k8s.io/apiserver/pkg/server", "k8s.io/apiserver/pkg/registry",
	"k8s.io/apiserver/pkg/storage", "k8s.io/apiserver/pkg/endpoints", "k8s.io/apiserver/pkg/admission/plugin/policy",
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota", "k8s.io/apiserver/pkg/admission/plugin/namespace",
}

// TestForbiddenImports keeps direct imports clean; the closure of the binary is held by TestClosure.
func TestForbiddenImports(t *testing.T) {
	top := root(t)
	sources(t, func(file string) {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		for _, spec := range parsed.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			if spec.Name != nil && spec.Name.Name == "_" && target != "embed" && !slices.Contains(blankImports, file) {
				t.Errorf("%s: blank import of %s; wiring is code", file, target)
			}
			for _, f := range forbidden {
				if target == f || strings.HasPrefix(target, f+"/") {
					t.Errorf("%s imports %s: write it ourselves", file, target)
				}
			}
		}
	})
}

// blankImports are the files that a library leaves no choice; each says why.
var blankImports = []string{"cri/containerd/plugins.go", "cmd/kogge/tzdata.go"}
