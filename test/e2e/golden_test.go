// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// makeGolden names the golden data folder to make, instead of opening those that are there.
var makeGolden = flag.String("golden", "", "make the golden data folder of this name from the build under test")

// goldenDir is the place of a golden folder's machine: volumes know the path of the data folder that they are in.
const goldenDir = "/tmp/kge-golden"

// golden is a data folder that some build of kogge left: test/golden/NAME.tar.gz, with its objects by path in NAME.json.
type golden struct {
	*machine
	t    *testing.T
	name string
}

func (g *golden) file(ending string) string {
	return filepath.Join(g.root, "test", "golden", g.name+ending)
}

// TestGolden opens the data folders that builds of earlier milestones left, in each of which a cluster was ended in order: every object is
// there and has not changed, the pods come back with their volumes, and the cluster works on.
func TestGolden(t *testing.T) {
	root, images, b := prepare(t)
	open := func(t *testing.T, name string) *golden {
		t.Helper()
		// One at a time on a machine; what a killed run left must be reset.
		if err := os.Mkdir(goldenDir, 0o700); err != nil {
			t.Fatalf("%v: end the run that has it, or 'kogge reset --data-dir %s/n0' and remove it", err, goldenDir)
		}
		m, err := newMachineIn(goldenDir, root, images, b)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.close(); err != nil {
				t.Errorf("clean up: %v", err)
			}
		})
		return &golden{machine: m, t: t, name: name}
	}
	if *makeGolden != "" {
		open(t, *makeGolden).make()
		return
	}
	archives, err := filepath.Glob(filepath.Join(root, "test", "golden", "*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no golden data folder: %v", err)
	}
	for _, archive := range archives {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		t.Run(name, func(t *testing.T) { open(t, name).check() })
	}
}

// must runs a command on the node.
func (g *golden) must(args ...string) string {
	g.t.Helper()
	stdout, stderr, err := g.run(0, "/", args...)
	if err != nil {
		g.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

func (g *golden) kubectl(args ...string) string {
	g.t.Helper()
	return g.must(append([]string{g.program("kubectl"), "-n", "golden"}, args...)...)
}

// up starts the node.
func (g *golden) up() {
	g.t.Helper()
	g.must(g.kogge, "up", "--detach", "--config", g.settings(), "--data-dir", g.data(0), "--node-name", "one")
	g.must(g.kogge, "image", "import", g.images, "--data-dir", g.data(0))
}

// work waits until the workloads of the folder run.
func (g *golden) work() {
	g.t.Helper()
	for _, name := range []string{"deployment/web", "statefulset/db", "daemonset/each"} {
		g.kubectl("rollout", "status", name, "--timeout=90s")
	}
	g.kubectl("wait", "--for=condition=Complete", "job/once", "--timeout=60s")
}

// check opens the folder.
func (g *golden) check() {
	g.t.Helper()
	if err := unpack(g.file(".tar.gz"), g.data(0)); err != nil {
		g.t.Fatal(err)
	}
	text, err := os.ReadFile(g.file(".json"))
	if err != nil {
		g.t.Fatal(err)
	}
	var want map[string]map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		g.t.Fatal(err)
	}
	g.up()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		var got map[string]any
		if err := json.Unmarshal([]byte(g.kubectl("get", "--raw", path)), &got); err != nil {
			g.t.Fatal(err)
		}
		if diff := cmp.Diff(lasting(want[path]), lasting(got)); diff != "" {
			g.t.Errorf("%s has changed (-before +now):\n%s", path, diff)
		}
	}
	g.work()
	if got := g.kubectl("exec", "db-0", "--", "cat", "/data/note"); got != "kept\n" {
		g.t.Errorf("the volume holds %q, want what was written before", got)
	}
	if got := g.kubectl("exec", "deployment/web", "--", "sh", "-c", "cat /all/turn /all/word; echo $WORD"); got != "1ahoyahoy\n" {
		g.t.Errorf("the pod sees %q of its ConfigMap and Secret", got)
	}
	if got := g.kubectl("get", "job", "once", "-o", "jsonpath={.status.succeeded}"); got != "2" {
		g.t.Errorf("the Job that was complete has %s successes, want 2", got)
	}
	g.goOn()
}

// goOn makes, changes and removes things in the opened cluster, by what it had: a policy, a definition, a Service.
func (g *golden) goOn() {
	g.t.Helper()
	g.kubectl("create", "configmap", "new", "--from-literal=a=b")
	if got := g.kubectl("get", "configmap", "new", "-o", "jsonpath={.metadata.labels.mutated}"); got != "yes" {
		g.t.Errorf("a new ConfigMap has the label %q of the mutating policy, want yes", got)
	}
	if _, stderr, err := g.run(0, "/", g.program("kubectl"), "-n", "golden", "create", "configmap", "big",
		"--from-literal=a=", "--from-literal=b=", "--from-literal=c=", "--from-literal=d=", "--from-literal=e="); err == nil || !strings.Contains(stderr, "a golden ConfigMap is small") {
		g.t.Errorf("the admission policy does not refuse what it should: %v, %s", err, stderr)
	}
	g.kubectl("patch", "ships", "kogge", "--type=merge", "-p", `{"spec":{"masts":2}}`)
	if got := g.kubectl("get", "ships.v0.sea.example", "kogge", "-o", "jsonpath={.apiVersion} {.spec.masts} {.spec.home}"); got != "sea.example/v0 2 Lübeck" {
		g.t.Errorf("the ship is %q", got)
	}
	g.kubectl("scale", "deployment/web", "--replicas=3")
	g.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	g.kubectl("rollout", "restart", "deployment/web")
	g.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	for deadline := time.Now().Add(20 * time.Second); g.fetch("http://10.96.0.77") != "hello from the box\n"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Errorf("the Service answers %q", g.fetch("http://10.96.0.77"))
			break
		}
	}
	g.kubectl("delete", "poddisruptionbudget", "web")
	g.kubectl("delete", "statefulset", "db", "--timeout=60s")
	g.kubectl("wait", "--for=delete", "pod/db-0", "pvc/data-db-0", "--timeout=60s")
}

// lasting is what of an object must outlive a change of builds: all of it, but where controllers report in it, their reports.
func lasting(object map[string]any) map[string]any {
	object = maps.Clone(object)
	if _, reported := object["status"]; !reported {
		return object
	}
	delete(object, "status")
	meta, _ := object["metadata"].(map[string]any)
	meta = maps.Clone(meta)
	delete(meta, "resourceVersion")
	delete(meta, "managedFields")
	object["metadata"] = meta
	return object
}

// make fills a new folder and writes it, and what it holds.
func (g *golden) make() {
	g.t.Helper()
	path := filepath.Join(g.root, "test", "golden", "objects.yaml")
	g.up()
	g.must(g.program("kubectl"), "wait", "--for=condition=Ready", "node/one", "--timeout=30s")
	_, _, _ = g.run(0, "/", g.program("kubectl"), "apply", "-f", path) // the last objects are of a kind that the others define
	g.must(g.program("kubectl"), "wait", `--for=jsonpath={.status.conditions[?(@.type=="Established")].status}=True`, "customresourcedefinition/ships.sea.example", "--timeout=30s")
	g.must(g.program("kubectl"), "apply", "-f", path)
	g.work()
	g.kubectl("exec", "db-0", "--", "sh", "-c", "echo kept > /data/note")
	objects := map[string]map[string]any{}
	for _, one := range g.made(path) {
		var object map[string]any
		if err := json.Unmarshal([]byte(g.kubectl("get", "--raw", one)), &object); err != nil {
			g.t.Fatal(err)
		}
		objects[one] = object
	}
	g.must(g.kogge, "down", "--data-dir", g.data(0))
	if err := pack(g.data(0), g.file(".tar.gz")); err != nil {
		g.t.Fatal(err)
	}
	var out bytes.Buffer
	separator := "{\n"
	for _, one := range slices.Sorted(maps.Keys(objects)) {
		text, err := json.Marshal(objects[one])
		if err != nil {
			g.t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s%q: %s", separator, one, text)
		separator = ",\n"
	}
	out.WriteString("\n}\n")
	if err := os.WriteFile(g.file(".json"), out.Bytes(), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

// made lists the paths of the objects of a manifest, of the volume behind the StatefulSet's claim, and of the pods.
func (g *golden) made(manifest string) []string {
	g.t.Helper()
	plurals := map[string]string{}
	for line := range strings.Lines(g.must(g.program("kubectl"), "api-resources", "--no-headers")) {
		fields := strings.Fields(line) // NAME [SHORTNAMES] APIVERSION NAMESPACED KIND
		plurals[fields[len(fields)-3]+" "+fields[len(fields)-1]] = fields[0]
	}
	text := g.kubectl("get", "-f", manifest, "-o", "json")
	var paths []string
	for _, more := range []string{text, g.kubectl("get", "pods,pvc,replicasets,controllerrevisions,pv", "-o", "json")} {
		var resources struct {
			Items []struct {
				APIVersion string `json:"apiVersion"`
				Kind       string `json:"kind"`
				Metadata   struct {
					Namespace string `json:"namespace"`
					Name      string `json:"name"`
				} `json:"metadata"`
			} `json:"items"`
		}
		if err := json.Unmarshal([]byte(more), &resources); err != nil {
			g.t.Fatal(err)
		}
		for _, item := range resources.Items {
			plural := plurals[item.APIVersion+" "+item.Kind]
			if item.Kind == "Ship" { // discovery names the preferred version only
				plural = "ships"
			}
			if plural == "" {
				g.t.Fatalf("no resource is known for %s %s", item.APIVersion, item.Kind)
			}
			root := "/apis/"
			if item.APIVersion == "v1" {
				root = "/api/"
			}
			path := root + item.APIVersion
			if item.Metadata.Namespace != "" {
				path += "/namespaces/" + item.Metadata.Namespace
			}
			paths = append(paths, path+"/"+plural+"/"+item.Metadata.Name)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// leftOut of an archive are what a node makes again: images and containers, sockets, programs and logs.
var leftOut = []string{"containerd", "cni/bin", "run", "log", "kogge.log"}

// pack writes a folder as an archive.
func pack(dir, archive string) (err error) {
	out, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	zipped, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(zipped)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path) // it lies below
		switch {
		case err != nil || name == ".":
			return err
		case slices.Contains(leftOut, name) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(leftOut, name) || entry.Type()&fs.ModeSocket != 0:
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		header.Name = name
		if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(w, in)
		return err
	})
	return errors.Join(err, w.Close(), zipped.Close())
}

// unpack is the opposite of pack.
func unpack(archive, dir string) error {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	zipped, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	for r := tar.NewReader(zipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		path := filepath.Join(dir, header.Name)
		if !strings.HasPrefix(path, dir+"/") {
			return fmt.Errorf("%s: %s leads out of the folder", archive, header.Name)
		}
		mode := header.FileInfo().Mode()
		switch {
		case mode.IsDir():
			err = os.MkdirAll(path, 0o700)
		case mode&fs.ModeSymlink != 0:
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(header.Linkname, path))
		default:
			var content []byte
			content, err = io.ReadAll(r)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600))
		}
		if mode&fs.ModeSymlink == 0 {
			err = errors.Join(err, os.Chmod(path, mode))
		}
		if err != nil {
			return err
		}
	}
}
