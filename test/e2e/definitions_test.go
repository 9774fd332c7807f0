// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && others

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

const (
	definitionsPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	// creators create at a time, as an administrator's tools do.
	creators = 4
)

// definitions COUNT SECONDS PATTERN...: so many custom resource definitions, those of the modules that test/thirdparty/definitions pins, in files that match
// MODULE//PATTERN, and more of them under other names, are Established within so many seconds of the first request.
func definitions(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 || neg {
		ts.Fatalf("usage: definitions COUNT SECONDS MODULE//PATTERN...")
	}
	m := of(ts)
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	seconds, err := strconv.Atoi(args[1])
	ts.Check(err)
	var published []*unstructured.Unstructured
	for _, pattern := range args[2:] {
		found, err := m.published(pattern)
		ts.Check(err)
		if len(found) == 0 {
			ts.Fatalf("no definition matches %s", pattern)
		}
		published = append(published, found...)
	}
	names, bodies, size, err := multiply(published, count)
	ts.Check(err)
	admin, err := m.administrator()
	ts.Check(err)
	began := time.Now()
	ts.Check(create(admin, bodies))
	created := time.Since(began)
	for _, name := range names {
		ts.Check(admin.established(name))
	}
	took := time.Since(began)
	ts.Logf("%d definitions, %d of them as published, %d bytes each: created in %.1f s, Established after %.1f s", count, len(published), size/count, created.Seconds(), took.Seconds())
	if took > time.Duration(seconds)*time.Second {
		ts.Fatalf("%d definitions are Established after %.1f s, want %d at most", count, took.Seconds(), seconds)
	}
}

// published returns the definitions in the files of a module that match MODULE//PATTERN.
func (m *machine) published(pattern string) ([]*unstructured.Unstructured, error) {
	module, path, _ := strings.Cut(pattern, "//")
	download := exec.Command("go", "mod", "download", "-json", module)
	download.Dir = filepath.Join(m.root, "test", "thirdparty", "definitions")
	out, err := download.Output()
	if err != nil {
		return nil, fmt.Errorf("download %s: %w\n%s", module, err, out)
	}
	var at struct{ Dir string }
	if err := json.Unmarshal(out, &at); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(at.Dir, path))
	if err != nil {
		return nil, err
	}
	var found []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for document := range strings.SplitSeq(string(text), "\n---") {
			obj := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if obj.GetKind() == "CustomResourceDefinition" {
				found = append(found, obj)
			}
		}
	}
	return found, nil
}

// multiply returns so many definitions by their names, those beyond the published ones with other groups, and their size together.
func multiply(published []*unstructured.Unstructured, count int) (names []string, bodies [][]byte, size int, err error) {
	for i := range count {
		obj := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(published[i%len(published)].Object)}
		if round := i / len(published); round > 0 {
			group, _, _ := unstructured.NestedString(obj.Object, "spec", "group")
			plural, _, _ := unstructured.NestedString(obj.Object, "spec", "names", "plural")
			group = fmt.Sprintf("x%d.%s", round, group)
			obj.SetName(plural + "." + group)
			if err := unstructured.SetNestedField(obj.Object, group, "spec", "group"); err != nil {
				return nil, nil, 0, err
			}
		}
		body, err := json.Marshal(obj.Object)
		if err != nil {
			return nil, nil, 0, err
		}
		names, bodies, size = append(names, obj.GetName()), append(bodies, body), size+len(body)
	}
	return names, bodies, size, nil
}

// administrator is a client of node 0's API server that holds no requests back.
type administrator struct {
	*http.Client

	server string
}

func (m *machine) administrator() (*administrator, error) {
	config, err := clientcmd.BuildConfigFromFlags("", m.kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = m.inside(0, func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	c, err := rest.HTTPClientFor(config)
	return &administrator{Client: c, server: config.Host}, err
}

// send returns the answer to a request, which must be a success.
func (a *administrator) send(method, path, accept string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, a.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", accept)
	resp, err := a.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %.2000s", method, path, resp.Status, answer)
	}
	return answer, err
}

// create creates definitions, a few at a time.
func create(a *administrator, bodies [][]byte) error {
	var g errgroup.Group
	g.SetLimit(creators)
	for _, body := range bodies {
		g.Go(func() error {
			_, err := a.send(http.MethodPost, definitionsPath, "application/json", body)
			return err
		})
	}
	return g.Wait()
}

// established waits until a definition is.
func (a *administrator) established(name string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		raw, err := a.send(http.MethodGet, definitionsPath+"/"+name, "application/vnd.kubernetes.protobuf", nil)
		if err != nil {
			return err
		}
		unknown := runtime.Unknown{}
		if err := unknown.Unmarshal(raw[4:]); err != nil { // behind "k8s\x00"
			return err
		}
		d := apiextensionsv1.CustomResourceDefinition{}
		if err := d.Unmarshal(unknown.Raw); err != nil {
			return err
		}
		if slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		}) {
			return nil
		}
	}
	return errors.New(name + " is not Established within a minute")
}

// live is in the heap profile's text what is in use: "heap profile: 1: 2 [3: 4]".
var live = regexp.MustCompile(`# HeapAlloc = (\d+)`)

// heap NAME: remembers the API server's live heap.
// heap NAME COUNT KB: it has grown since by less than so many thousand bytes for each of so many.
func heap(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 && len(args) != 3 || neg {
		ts.Fatalf("usage: heap NAME [COUNT KB]")
	}
	admin, err := of(ts).administrator()
	ts.Check(err)
	text, err := admin.send(http.MethodGet, "/debug/pprof/heap?gc=1&debug=1", "*/*", nil)
	ts.Check(err)
	found := live.FindSubmatch(text)
	if found == nil {
		ts.Fatalf("the heap profile does not say what is in use")
	}
	now, err := strconv.Atoi(string(found[1]))
	ts.Check(err)
	if len(args) == 1 {
		ts.Logf("%d bytes in use", now)
		ts.Setenv(args[0], string(found[1]))
		return
	}
	before, err := strconv.Atoi(ts.Getenv(args[0]))
	ts.Check(err)
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	limit, err := strconv.Atoi(args[2])
	ts.Check(err)
	each := (now - before) / count
	ts.Logf("%d bytes in use, %d more for each of %d", now, each, count)
	if each > limit*1000 {
		ts.Fatalf("%d bytes for each of %d, want %d kB at most", each, count, limit)
	}
}
