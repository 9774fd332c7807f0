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

// live is in the heap profile's text what is in use, anonymous in /proc/PID/status what no file is behind.
var (
	live      = regexp.MustCompile(`# HeapAlloc = (\d+)`)
	anonymous = regexp.MustCompile(`RssAnon:\s*(\d+) kB`)
)

// memory NAME: remembers the live heap and the anonymous memory of the process with node 0's API server.
// memory NAME COUNT LIVE ANONYMOUS: they have grown since by no more than so many thousand bytes for each of so many.
func memory(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 && len(args) != 4 || neg {
		ts.Fatalf("usage: memory NAME [COUNT LIVE ANONYMOUS]")
	}
	now, err := of(ts).memory()
	ts.Check(err)
	ts.Logf("%d bytes in use, %d of anonymous memory", now[0], now[1])
	if len(args) == 1 {
		ts.Setenv(args[0], fmt.Sprint(now[0], now[1]))
		return
	}
	var before [2]int
	_, err = fmt.Sscan(ts.Getenv(args[0]), &before[0], &before[1])
	ts.Check(err)
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	for i, what := range []string{"in use", "of anonymous memory"} {
		limit, err := strconv.Atoi(args[2+i])
		ts.Check(err)
		each := (now[i] - before[i]) / count
		ts.Logf("%d bytes %s more for each of %d", each, what, count)
		if each > limit*1000 {
			ts.Fatalf("%d bytes %s for each of %d, want %d kB at most", each, what, count, limit)
		}
	}
}

// memory is the live heap and the anonymous memory, as it is before the heap is collected to find that out.
func (m *machine) memory() (sizes [2]int, err error) {
	pid, err := pidIn(filepath.Join(m.data(0), "kogge.lock"))
	if err != nil {
		return sizes, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return sizes, err
	}
	admin, err := m.administrator()
	if err != nil {
		return sizes, err
	}
	profile, err := admin.send(http.MethodGet, "/debug/pprof/heap?gc=1&debug=1", "*/*", nil)
	if err != nil {
		return sizes, err
	}
	heap, rss := live.FindSubmatch(profile), anonymous.FindSubmatch(status)
	if heap == nil || rss == nil {
		return sizes, errors.New("the heap profile does not say what is in use, or the kernel not what is resident")
	}
	used, err1 := strconv.Atoi(string(heap[1]))
	kilobytes, err2 := strconv.Atoi(string(rss[1]))
	return [2]int{used, kilobytes * 1024}, errors.Join(err1, err2)
}
