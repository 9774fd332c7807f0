// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// storyLimit bounds the story, stepLimit one step of it.
const (
	storyLimit = 5 * time.Minute
	stepLimit  = "--timeout=90s"
)

const namespace = "cross-story"

// cast are the objects of the story: a web server that says its pod's name, behind a Service, and somebody who asks.
const cast = `apiVersion: v1
kind: Namespace
metadata: {name: cross-story}
---
apiVersion: apps/v1
kind: Deployment
metadata: {namespace: cross-story, name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: registry.k8s.io/e2e-test-images/agnhost:2.63.0
        args: [netexec, --http-port=8080]
        readinessProbe: {httpGet: {port: 8080, path: /healthz}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {namespace: cross-story, name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
` + asker

const asker = `---
apiVersion: v1
kind: Pod
metadata: {namespace: cross-story, name: ask}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: ask, image: "registry.k8s.io/e2e-test-images/agnhost:2.63.0", args: [pause]}]
`

// story tells it.
func (c *cell) story(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storyLimit)
	defer cancel()
	for _, chapter := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"a Service by name", c.tellService},
		{"a rollout", c.tellRollout},
		{"a crash", c.tellCrash},
		{"a drain", c.tellDrain},
		{"an end", c.tellEnd},
	} {
		if err := chapter.tell(ctx); err != nil {
			state, _ := c.kubectl(ctx, "get", "all,events", "-A", "-o", "wide") // for who looks for the cause
			return fmt.Errorf("%s: %w\n%s", chapter.title, err, state)
		}
	}
	return nil
}

func (c *cell) in(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, append([]string{"-n", namespace}, args...)...)
}

// ask reaches the Service by name from a pod.
func (c *cell) ask(ctx context.Context) error {
	if _, err := c.in(ctx, "wait", "pod/ask", "--for=condition=Ready", stepLimit); err != nil {
		return err
	}
	return c.await(ctx, "the Service", func(ctx context.Context) error {
		said, err := c.in(ctx, "exec", "ask", "--", "curl", "-sS", "--max-time", "2", "http://web.cross-story.svc.cluster.local/hostname")
		if err == nil && !strings.HasPrefix(said, "web-") {
			err = fmt.Errorf("the Service answers %q", said)
		}
		return err
	})
}

func (c *cell) tellService(ctx context.Context) error {
	if err := c.apply(ctx, cast); err != nil {
		return err
	}
	if _, err := c.in(ctx, "rollout", "status", "deployment/web", stepLimit); err != nil {
		return err
	}
	return c.ask(ctx)
}

func (c *cell) tellRollout(ctx context.Context) error {
	if _, err := c.in(ctx, "set", "env", "deployment/web", "CHAPTER=2"); err != nil {
		return err
	}
	if _, err := c.in(ctx, "rollout", "status", "deployment/web", stepLimit); err != nil {
		return err
	}
	return c.ask(ctx)
}

// tellCrash lets a container end itself: it comes back, with the pod's address.
func (c *cell) tellCrash(ctx context.Context) error {
	var name, ip string
	if err := c.await(ctx, "the end of the old pods", func(ctx context.Context) error {
		found, err := c.in(ctx, "get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}")
		lines := strings.Split(strings.TrimSpace(found), "\n")
		if err == nil && len(lines) != 2 {
			err = fmt.Errorf("there are %d pods, want 2", len(lines))
		}
		name, ip, _ = strings.Cut(lines[0], " ")
		return err
	}); err != nil {
		return err
	}
	// The server ends before it answers, so curl fails.
	_, _ = c.in(ctx, "exec", "ask", "--", "curl", "-sS", "--max-time", "2", "http://"+ip+":8080/exit?code=3")
	return c.await(ctx, "the container's return", func(ctx context.Context) error {
		said, err := c.in(ctx, "get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready} {.status.podIP}")
		if err == nil && said != "1 true "+ip {
			err = fmt.Errorf("restarts, readiness and address of pod %s are %q, want %q", name, said, "1 true "+ip)
		}
		return err
	})
}

// tellDrain empties the node and lets it work again.
func (c *cell) tellDrain(ctx context.Context) error {
	if _, err := c.kubectl(ctx, "drain", nodeName, "--force", "--ignore-daemonsets", "--delete-emptydir-data", stepLimit); err != nil {
		return err
	}
	if said, err := c.in(ctx, "get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"); err != nil || strings.TrimSpace(said) != "" {
		return errors.Join(fmt.Errorf("pods are on %q after the drain", said), err)
	}
	if _, err := c.kubectl(ctx, "uncordon", nodeName); err != nil {
		return err
	}
	if err := c.apply(ctx, asker); err != nil {
		return err
	}
	if _, err := c.in(ctx, "rollout", "status", "deployment/web", stepLimit); err != nil {
		return err
	}
	return c.ask(ctx)
}

func (c *cell) tellEnd(ctx context.Context) error {
	_, err := c.kubectl(ctx, "delete", "namespace", namespace, stepLimit)
	return err
}
