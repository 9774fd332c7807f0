// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// actors are all of them.
var actors = []actor{
	{"rollout", playRollout},
	{"job", playJob},
	{"stateful", playStateful},
	{"objects", playObjects},
	{"definition", playDefinition},
	{"watch", playWatch},
	{"exec", playExec},
}

// playRollout starts a Deployment behind a Service, scales and rolls it, and asks it by the Service's address all the while.
func playRollout(ctx context.Context, r *round) error {
	if err := r.create(ctx, "rollout.yaml"); err != nil {
		return err
	}
	deployments := r.api.built("deployments.apps/v1")
	service, err := r.api.built("services/v1").Get(ctx, r.namespace, "web")
	if err != nil {
		return err
	}
	address, _, err := unstructured.NestedString(service.Object, "spec", "clusterIP")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	for i, patch := range []string{
		`{}`,
		`{"spec": {"replicas": 4}}`,
		`{"spec": {"replicas": 2, "template": {"metadata": {"annotations": {"turn": "1"}}}}}`,
		`{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "kogge.test/box:1", "command": ["httpd", "-f", "-p", "8080", "-h", "/www"]}]}}}}`,
	} {
		if err := merge(ctx, deployments, r.namespace, "web", patch); err != nil {
			return err
		}
		if err := r.rolledOut(ctx, deployments); err != nil {
			return fmt.Errorf("turn %d: %w", i, err)
		}
		if err := until(ctx, "the Service", func() error { return ahoy(ctx, client, "http://"+net.JoinHostPort(address, "80")) }); err != nil {
			return fmt.Errorf("turn %d: %w", i, err)
		}
	}
	if err := merge(ctx, deployments, r.namespace, "web", `{"spec": {"replicas": 0}}`); err != nil {
		return err
	}
	return count(ctx, r.api.built("pods/v1"), r.namespace, "app=web", 0)
}

// rolledOut waits until a Deployment's status is that of its last change, with all replicas available and no old ones.
func (r *round) rolledOut(ctx context.Context, deployments dynamic) error {
	return until(ctx, "the rollout", func() error {
		d, err := deployments.Get(ctx, r.namespace, "web")
		if err != nil {
			return err
		}
		want, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas") // it is always there
		status, _, err := unstructured.NestedMap(d.Object, "status")
		if err != nil {
			return err
		}
		for _, field := range []string{"replicas", "updatedReplicas", "availableReplicas"} {
			if status[field] != want {
				return fmt.Errorf("%s is %v, want %d", field, status[field], want)
			}
		}
		if status["observedGeneration"] != d.GetGeneration() {
			return errors.New("its last change was not observed yet")
		}
		return nil
	})
}

// ahoy asks a web server once.
func ahoy(ctx context.Context, client *http.Client, url string) error {
	page, err := open(ctx, client, url)
	if err != nil {
		return err
	}
	defer page.Close()
	body, err := io.ReadAll(page)
	if err == nil && string(body) != "ahoy\n" {
		err = fmt.Errorf("%s answers %q", url, body)
	}
	return err
}

// playJob runs a Job to its end and reads its log, and lets a container end again and again.
func playJob(ctx context.Context, r *round) error {
	if err := r.create(ctx, "job.yaml"); err != nil {
		return err
	}
	if err := has(ctx, r.api.built("jobs.batch/v1"), r.namespace, "work", "status.succeeded", 3); err != nil {
		return err
	}
	if said, err := r.m.kubectl(ctx, "-n", r.namespace, "logs", "-l", "job-name=work"); err != nil || strings.Count(said, "done") != 3 {
		return errors.Join(fmt.Errorf("the logs of the Job's pods say %q", said), err)
	}
	return until(ctx, "a restart", func() error {
		pod, err := r.api.built("pods/v1").Get(ctx, r.namespace, "crash")
		if err != nil {
			return err
		}
		containers, _, err := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
		if err != nil || len(containers) == 0 {
			return errors.Join(errors.New("it has no container yet"), err)
		}
		if restarts, _ := containers[0].(map[string]any)["restartCount"].(int64); restarts < 2 {
			return fmt.Errorf("there were %d", restarts)
		}
		return nil
	})
}

// playStateful runs a StatefulSet with volumes, and scales it down.
func playStateful(ctx context.Context, r *round) error {
	if err := r.create(ctx, "stateful.yaml"); err != nil {
		return err
	}
	sets := r.api.built("statefulsets.apps/v1")
	if err := has(ctx, sets, r.namespace, "db", "status.availableReplicas", 2); err != nil {
		return err
	}
	if err := merge(ctx, sets, r.namespace, "db", `{"spec": {"replicas": 1}}`); err != nil {
		return err
	}
	return count(ctx, r.api.built("pods/v1"), r.namespace, "", 1)
}

// objectsAtOnce is how many objects of one kind playObjects makes.
const objectsAtOnce = 30

// playObjects makes, changes and removes objects that no pod uses.
func playObjects(ctx context.Context, r *round) error {
	if err := r.create(ctx, "objects.yaml"); err != nil {
		return err
	}
	for i := range objectsAtOnce {
		text := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%[1]d}\ndata: {n: \"%[1]d\", text: %[2]q}\n---\n"+
			"apiVersion: v1\nkind: Secret\nmetadata: {name: s%[1]d}\nstringData: {n: \"%[1]d\"}\n---\n"+
			"apiVersion: v1\nkind: Service\nmetadata: {name: v%[1]d}\nspec: {type: NodePort, selector: {app: none}, ports: [{port: 80}]}",
			i, strings.Repeat("x", 2000))
		if err := r.api.create(ctx, r.namespace, text); err != nil {
			return err
		}
	}
	for i := range objectsAtOnce {
		for kind, name := range map[string]string{"configmaps/v1": "c", "secrets/v1": "s"} {
			if err := merge(ctx, r.api.built(kind), r.namespace, fmt.Sprint(name, i), `{"data": {"n": "Y2hhbmdlZA=="}}`); err != nil {
				return err
			}
		}
	}
	for i := range objectsAtOnce / 2 { // the others end with the namespace
		if err := gone(ctx, r.api.built("services/v1"), r.namespace, fmt.Sprint("v", i)); err != nil {
			return err
		}
	}
	return nil
}

// playDefinition defines a kind in a group of its own, and makes, watches and changes instances of it.
func playDefinition(ctx context.Context, r *round) error {
	if err := r.create(ctx, "definition.yaml"); err != nil {
		return err
	}
	definitions := r.api.built("customresourcedefinitions.apiextensions.k8s.io/v1")
	group := fmt.Sprintf("sea%d.example", r.number)
	vessels := r.api.of(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "vessels"})
	if err := until(ctx, "the kind", func() error {
		_, err := vessels.List(ctx, "", metav1.ListOptions{})
		return err
	}); err != nil {
		return err
	}
	stream, err := vessels.Watch(ctx, r.namespace, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer stream.Stop()
	const instances = 20
	for i := range instances {
		vessel := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": group + "/v1", "kind": "Vessel", "metadata": map[string]any{"name": fmt.Sprint("v", i), "namespace": r.namespace},
			"spec": map[string]any{"masts": int64(i%2 + 1)},
		}}
		if _, err := vessels.Create(ctx, vessel); err != nil {
			return fmt.Errorf("create vessel: %w", err)
		}
		if err := merge(ctx, vessels, r.namespace, vessel.GetName(), `{"spec": {"masts": 3}}`); err != nil {
			return err
		}
	}
	for range 2 * instances {
		select {
		case event, open := <-stream.Events():
			if !open || event.Object == nil {
				return fmt.Errorf("the watch ended early: %v", event.Type)
			}
		case <-ctx.Done():
			return fmt.Errorf("events are missing: %w", context.Cause(ctx))
		}
	}
	return gone(ctx, definitions, "", "vessels."+group)
}

// watched are the kinds that playWatch watches.
var watched = []string{
	"pods/v1", "configmaps/v1", "secrets/v1", "services/v1", "events/v1", "endpointslices.discovery.k8s.io/v1", "deployments.apps/v1",
	"replicasets.apps/v1", "jobs.batch/v1", "persistentvolumeclaims/v1", "namespaces/v1", "nodes/v1",
}

// playWatch opens watches over connections of its own, and cuts them: some by their clients, some by the server, and the rest with the
// connection that they are on, while nobody reads them.
func playWatch(ctx context.Context, r *round) error {
	backend, err := r.api.connect()
	if err != nil {
		return err
	}
	defer backend.Client().CloseIdleConnections()
	watching, cut := context.WithCancel(ctx)
	defer cut()
	soon := int64(2)
	for i, kind := range watched {
		of := r.api.built(kind)
		path := watchPath(of.GVR())
		switch i % 3 {
		case 0: // ended by the server
			path += fmt.Sprintf("&timeoutSeconds=%d", soon)
		case 1: // with bookmarks, and initial events
			path += "&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
		default: // never read
		}
		events, err := open(watching, backend.Client(), r.api.config.Host+path)
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind, err)
		}
		defer events.Close()
		if i%3 == 0 {
			go func() { _, _ = io.Copy(io.Discard, events) }() // until its end, whatever that is
		}
	}
	return wait(ctx, time.Duration(soon)*time.Second+500*time.Millisecond)
}

// open begins to read a URL.
func open(ctx context.Context, client *http.Client, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.Join(errors.New(res.Status), res.Body.Close())
	}
	return res.Body, nil
}

// watchPath is the path of a watch of a resource in all namespaces.
func watchPath(gvr schema.GroupVersionResource) string {
	path := "/api/" + gvr.Version
	if gvr.Group != "" {
		path = "/apis/" + gvr.Group + "/" + gvr.Version
	}
	return path + "/" + gvr.Resource + "?watch=true"
}

// playExec runs commands in a pod, follows its log, attaches and forwards a port, each to an end of its own and cut in the middle.
func playExec(ctx context.Context, r *round) error {
	if err := r.create(ctx, "exec.yaml"); err != nil {
		return err
	}
	if err := has(ctx, r.api.built("pods/v1"), r.namespace, "shell", "status.phase", "Running"); err != nil {
		return err
	}
	in := func(args ...string) []string { return append([]string{"kubectl", "-n", r.namespace}, args...) }
	if said, err := r.m.kogge(ctx, in("exec", "shell", "--", "echo", "ahoy")...); err != nil || said != "ahoy\n" {
		return errors.Join(fmt.Errorf("the command says %q", said), err)
	}
	if said, err := r.m.kogge(ctx, in("logs", "shell", "--tail=1")...); err != nil || !strings.Contains(said, "tick") {
		return errors.Join(fmt.Errorf("the log says %q", said), err)
	}
	for _, c := range []struct {
		says string // once it is connected
		args []string
	}{
		{"ahoy", []string{"exec", "-i", "shell", "--", "cat"}},
		{"tock", []string{"exec", "shell", "--", "sh", "-c", "while true; do echo tock; sleep 0.1; done"}},
		{"tick", []string{"logs", "-f", "shell"}},
		{"tick", []string{"attach", "shell"}},
		{"Forwarding from", []string{"port-forward", "shell", ":8080"}},
	} {
		if err := r.cut(ctx, c.says, in(c.args...)); err != nil {
			return fmt.Errorf("%s: %w", c.args[0], err)
		}
	}
	return nil
}

// awaited is what a command says, until it has said what is waited for.
type awaited struct {
	text string
	said bytes.Buffer
	seen chan struct{}
}

// Write implements io.Writer.
func (a *awaited) Write(data []byte) (int, error) {
	select {
	case <-a.seen:
		return len(data), nil
	default:
	}
	a.said.Write(data)
	if bytes.Contains(a.said.Bytes(), []byte(a.text)) {
		close(a.seen)
	}
	return len(data), nil
}

// cut runs a command until it says something, and kills it. Its input says ahoy.
func (r *round) cut(ctx context.Context, says string, args []string) error {
	cutting, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := r.m.command(cutting, args...)
	input, err := cmd.StdinPipe() // open, so that it does not end for lack of it
	if err != nil {
		return err
	}
	defer input.Close()
	said := &awaited{text: says, seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := io.WriteString(input, "ahoy\n"); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return fmt.Errorf("it ended before it was cut: %w\n%s", err, said.said.Bytes())
	case <-said.seen:
	case <-ctx.Done():
	}
	cancel()
	if _, killed := errors.AsType[*exec.ExitError](<-ended); !killed {
		return errors.New("it was not killed")
	}
	return nil
}
