// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// The stories run against the built binary with stock kubectl: each script in testdata gets a cluster of its own
// in network namespaces of its own.
package e2e

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"kogge.dev/kogge/test/image"
)

var only = flag.String("story", "", "run only the stories whose file name contains this")

func TestStories(t *testing.T) { runStories(t, "testdata", nil) }

// prepare returns the root of the repository, which must have been built, and an archive of the images that the tests use.
func prepare(t *testing.T) (root, images string, b *box) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests start containers and make network namespaces: run as root")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"kogge", "kubectl"} {
		if _, err := os.Stat(filepath.Join(root, "bin", program)); err != nil {
			t.Fatalf("%v: run 'make build kubectl' first", err)
		}
	}
	scratch := t.TempDir()
	b, err = newBox(scratch)
	if err != nil {
		t.Fatal(err)
	}
	i, err := b.image("hello from the box")
	if err != nil {
		t.Fatal(err)
	}
	images = filepath.Join(scratch, "images.tar")
	if err := i.WriteOCI(images, image.ContainerdName, boxImage); err != nil {
		t.Fatal(err)
	}
	return root, images, b
}

// runStories runs the scripts of a folder, which know more commands than the usual ones.
func runStories(t *testing.T, dir string, more map[string]func(*testscript.TestScript, bool, []string)) {
	t.Helper()
	root, images, b := prepare(t)
	files, err := filepath.Glob(filepath.Join(dir, "*"+*only+"*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories match %q: %v", *only, err)
	}
	commands := map[string]func(*testscript.TestScript, bool, []string){
		"kogge": runKogge, "kubectl": runKubectl, "up": up, "join": join, "images": importImages, "get": get, "within": within,
		"upapart": upApart, "binary": binary, "killserver": killServer, "killruntime": killRuntime, "pods": pods, "host": host, "forward": forward, "snapshot": snapshot, "unplug": unplug,
		"component": startComponent, "interrupt": interrupt, "certificate": certificate,
		"issuer": issuer, "issue": issue, "expand": expand, "archive": archive, "registry": registry,
	}
	maps.Copy(commands, more)
	testscript.Run(t, testscript.Params{
		Files: files, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			m, err := newMachine(root, images, b)
			if err != nil {
				return err
			}
			env.Values[machineKey{}] = m
			env.Setenv("KUBECONFIG", m.kubeconfig())
			env.Setenv("DATA", m.data(0))
			env.Setenv("KOGGE", m.kogge)
			env.Defer(func() {
				if err := m.close(); err != nil {
					t.Errorf("clean up: %v", err)
				}
			})
			return nil
		},
		Cmds: commands,
	})
}
