// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && others

// The stories in testdata/others run programs that we did not write against the built binary; tools/others builds them.
package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"kogge.dev/kogge/test/image"
)

func TestOthers(t *testing.T) {
	runStories(t, filepath.Join("testdata", "others"), map[string]func(*testscript.TestScript, bool, []string){
		"program": program, "manifest": manifest, "other": other, "definitions": definitions, "memory": memory,
	})
}

// program NAME...: imports the image others.test/NAME:1, which holds the program alone.
func program(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("program can't fail")
	}
	m := of(ts)
	for _, name := range args {
		content, err := os.ReadFile(m.program(filepath.Join("others", name)))
		ts.Check(err)
		layer, err := image.Program(name, content)
		ts.Check(err)
		path := ts.MkAbs(name + ".tar")
		ts.Check(image.New(layer, "/"+name).WriteOCI(path, image.ContainerdName, "others.test/"+name+":1"))
		if _, stderr, err := m.run(0, "/", m.kogge, "image", "import", path, "--data-dir", m.data(0)); err != nil {
			ts.Fatalf("import %s: %v\n%s", name, err, stderr)
		}
		ts.Check(os.Remove(path))
	}
}

// manifest NAME MODULE PATH TARGET: copies a file or a folder of a module that the program NAME is built from.
func manifest(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 || neg {
		ts.Fatalf("usage: manifest NAME MODULE PATH TARGET")
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", args[1])
	list.Dir = filepath.Join(of(ts).root, "test", "thirdparty", args[0])
	dir, err := list.Output()
	ts.Check(err)
	source, target := filepath.Join(string(bytes.TrimSpace(dir)), args[2]), ts.MkAbs(args[3])
	info, err := os.Stat(source)
	ts.Check(err)
	if info.IsDir() {
		ts.Check(os.CopyFS(target, os.DirFS(source)))
		return
	}
	content, err := os.ReadFile(source)
	ts.Check(err)
	ts.Check(os.WriteFile(target, content, 0o644))
}

// other NAME ARGS...: a program of others on node 0.
func other(ts *testscript.TestScript, neg bool, args []string) {
	m := of(ts)
	command := append([]string{m.program(filepath.Join("others", args[0]))}, args[1:]...)
	stdout, stderr, err := m.run(0, ts.Getenv("WORK"), command...)
	finish(ts, neg, stdout, stderr, err)
}
