// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command openapi makes apiserver/openapi/definitions.json.gz, the schemas of all published API types with their group, version and kind,
// and apiserver/openapi/types.json.gz, what server-side apply needs to know of them. Run it in this folder with "go run .". It finds the packages that ask for schemas, lets kube-openapi's generator write Go
// code into a folder that is removed afterwards, and runs that code once to print the schemas as data.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// modules whose packages are searched for schemas, with the sub-trees that belong to the API surface.
var modules = []struct{ path, tree string }{
	{"k8s.io/api", "."},
	{"k8s.io/apimachinery", "pkg"},
	{"k8s.io/apiextensions-apiserver", "pkg/apis"},
	{"k8s.io/kube-aggregator", "pkg/apis"},
	{"k8s.io/metrics", "pkg/apis"},
}

// The files that are made.
const (
	generated = "generated"
	output    = "../../apiserver/openapi/definitions.json.gz"
	types     = "../../apiserver/openapi/types.json.gz"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var packages []string
	for _, m := range modules {
		found, err := tagged(ctx, m.path, m.tree)
		if err != nil {
			return err
		}
		packages = append(packages, found...)
	}
	slices.Sort(packages)
	defer func() { _ = os.RemoveAll(generated) }()
	args := append([]string{
		"tool", "openapi-gen", "--go-header-file", os.DevNull, "--output-dir", generated,
		"--output-pkg", "kogge.dev/kogge/tools/openapi/generated", "--output-file", "openapi.go", "--report-filename", os.DevNull,
	}, packages...)
	if _, err := command(ctx, args...); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	data, err := command(ctx, "run", "-tags", "dump", "./dump")
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if err := write(output, data); err != nil {
		return err
	}
	if data, err = applyTypes(data); err != nil {
		return fmt.Errorf("types: %w", err)
	}
	return write(types, data)
}

func write(path string, data []byte) error {
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := zip.Write(data); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s: %d bytes, %d packed\n", path, len(data), packed.Len())
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

// tagged returns the import paths below a module's tree whose sources carry a +k8s:openapi-gen tag.
func tagged(ctx context.Context, module, tree string) ([]string, error) {
	dir, err := command(ctx, "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return nil, err
	}
	root := strings.TrimSpace(string(dir))
	found := map[string]bool{}
	err = filepath.WalkDir(filepath.Join(root, tree), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(data, []byte("+k8s:openapi-gen=true")) && !strings.Contains(path, "testing") {
			rel, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			found[module+"/"+filepath.ToSlash(rel)] = true
		}
		return nil
	})
	var out []string
	for path := range found {
		out = append(out, strings.TrimSuffix(path, "/."))
	}
	return out, err
}

func command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	return cmd.Output()
}
