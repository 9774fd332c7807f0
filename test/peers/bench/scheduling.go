// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
)

const (
	schedulePods = 5000
	zones        = 10
	// podsApart is how many pods keep off each other in one group: as many as the smaller cluster has nodes.
	podsApart = 1000
	// nodesPerBeat is how many nodes have their leases renewed one after the other.
	nodesPerBeat = 200
	// renewEvery is how often a lease is renewed.
	renewEvery = 20 * time.Second
	// caseLimit is how long one shape may take.
	caseLimit = 150 * time.Second
)

// benchScheduling measures how fast 5,000 pods find their places on 1,000 and 5,000 nodes that nobody runs: from the first pod's creation
// to the last one's binding, as a watcher sees it. The gate: no node has more than fits, spread pods are evenly in the zones, and pods
// that must be apart are.
func benchScheduling(ctx context.Context, r *round, s *subject, user *load.Client) error {
	beating, stopBeating := context.WithCancel(ctx)
	defer stopBeating()
	made := 0
	for _, nodes := range []int{1000, 5000} {
		if err := makeNodes(ctx, user, made, nodes); err != nil {
			return fmt.Errorf("make %d nodes: %w", nodes, err)
		}
		for from := made; from < nodes; from += nodesPerBeat {
			go beat(beating, user, from, from+nodesPerBeat)
		}
		made = nodes
		for _, shape := range []string{"plain", "spread", "apart"} {
			c := fmt.Sprintf("%d %s pods on %d nodes", schedulePods, shape, nodes)
			a := &assignment{shape: shape, nodes: map[string]string{}, groups: map[string]string{}}
			err := r.profiled(ctx, s, c, func() error { return r.schedule(ctx, user, c, a) })
			if err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
			if err := a.check(); err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
			if err := s.empty(ctx, user, shape); err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
		}
	}
	return r.memory("all of them", "resident MiB after")
}

const leasesPath = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

// makeNodes creates nodes and their leases.
func makeNodes(ctx context.Context, user *load.Client, from, to int) error {
	_, err := user.Run(ctx, 16, 2*(to-from), func(i int) load.Request {
		post := load.Request{Method: "POST", Path: "/api/v1/nodes", ContentType: load.JSON, Accept: load.Protobuf}
		if node := from + i/2; i%2 == 0 {
			post.Body = encode(fakeNode(node))
		} else {
			post.Path = leasesPath
			post.Body = encode(object{"metadata": object{"name": nodeName(node)}, "spec": leaseSpec()})
		}
		return post
	}, nil)
	return err
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func leaseSpec() object {
	return object{"holderIdentity": "bench", "leaseDurationSeconds": 40, "renewTime": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")}
}

// beat renews leases, each once in renewEvery: half as often as kubelets do, and enough for the nodes to be left in peace.
func beat(ctx context.Context, user *load.Client, from, to int) {
	ticker := time.NewTicker(renewEvery / time.Duration(to-from))
	defer ticker.Stop()
	for i := from; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if i == to {
			i = from
		}
		renew := load.Request{
			Method: "PATCH", Path: leasesPath + "/" + nodeName(i), ContentType: "application/merge-patch+json", Accept: load.Protobuf,
			Body: encode(object{"spec": leaseSpec()}),
		}
		if _, err := user.Do(ctx, 2, renew); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "renew lease:", err) // the nodes' pods will tell, too
		}
	}
}

// fakeNode is a node of 32 CPUs for 110 pods that says it is ready.
func fakeNode(i int) object {
	capacity := object{"cpu": "32", "memory": "256Gi", "pods": "110"}
	return object{
		"apiVersion": "v1", "kind": "Node",
		"metadata": object{"name": nodeName(i), "labels": object{
			"kubernetes.io/hostname": nodeName(i), "topology.kubernetes.io/zone": zoneOf(i),
		}},
		"status": object{
			"capacity": capacity, "allocatable": capacity,
			"conditions": []object{{
				"type": "Ready", "status": "True", "reason": "Bench", "message": "not a real node",
				"lastHeartbeatTime": time.Now().UTC().Format(time.RFC3339), "lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
			}},
		},
	}
}

func zoneOf(node int) string { return fmt.Sprintf("zone-%d", node%zones) }

// shapedPod is the i-th pod to be placed.
func shapedPod(shape string, i int) object {
	pod := samplePod(podName(shape, i), 1)
	labels := pod["metadata"].(object)["labels"].(object)
	labels["shape"], labels["group"] = shape, fmt.Sprintf("g%d", i/podsApart)
	spec := pod["spec"].(object)
	delete(spec, "schedulerName")
	switch shape {
	case "spread":
		spec["topologySpreadConstraints"] = []object{{
			"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
			"labelSelector": object{"matchLabels": object{"shape": shape}},
		}}
	case "apart":
		spec["affinity"] = object{"podAntiAffinity": object{"requiredDuringSchedulingIgnoredDuringExecution": []object{{
			"topologyKey": "kubernetes.io/hostname", "labelSelector": object{"matchLabels": object{"shape": shape, "group": labels["group"]}},
		}}}}
	}
	return pod
}

// schedule creates the pods as fast as they are taken and watches them being bound.
func (r *round) schedule(ctx context.Context, user *load.Client, c string, a *assignment) error {
	bodies := make([][]byte, schedulePods)
	for i := range bodies {
		bodies[i] = encode(shapedPod(a.shape, i))
	}
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	created := make(chan error, 1)
	go func() {
		_, err := user.Run(ctx, 8, schedulePods, func(i int) load.Request {
			return load.Request{Method: "POST", Path: podsPath, ContentType: load.JSON, Accept: load.Protobuf, Body: bodies[i]}
		}, nil)
		created <- err
	}()
	watching, cancel := context.WithTimeoutCause(ctx, caseLimit, fmt.Errorf("not finished after %v", caseLimit))
	defer cancel()
	if err := a.watch(watching, user); err != nil {
		return fmt.Errorf("%d of %d pods bound: %w; %s", len(a.nodes), schedulePods, err, a.unbound(context.WithoutCancel(ctx), user))
	}
	took := time.Since(begin)
	if err := <-created; err != nil {
		return err
	}
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	r.more(c, "pods per second", schedulePods/took.Seconds())
	r.less(c, "CPU µs per pod, all components", microseconds(after-used)/schedulePods)
	return nil
}

// assignment is where the pods of one shape went.
type assignment struct {
	shape  string
	nodes  map[string]string // by pod
	groups map[string]string
}

// watch returns when every pod is bound.
func (a *assignment) watch(ctx context.Context, user *load.Client) error {
	path := podsPath + "?watch=1&labelSelector=shape%3D" + a.shape
	marker := []byte(`"nodeName":"`)
	_, err := watch(ctx, user, 3, path, func(line []byte) (bool, error) {
		if !bytes.Contains(line, marker) {
			return false, nil
		}
		var e struct {
			Object struct {
				Metadata struct {
					Name   string            `json:"name"`
					Labels map[string]string `json:"labels"`
				} `json:"metadata"`
				Spec struct {
					NodeName string `json:"nodeName"`
				} `json:"spec"`
			} `json:"object"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return false, err
		}
		name := e.Object.Metadata.Name
		if before, known := a.nodes[name]; known && before != e.Object.Spec.NodeName {
			return false, fmt.Errorf("%s moved from %s to %s", name, before, e.Object.Spec.NodeName)
		}
		a.nodes[name], a.groups[name] = e.Object.Spec.NodeName, e.Object.Metadata.Labels["group"]
		return len(a.nodes) == schedulePods, nil
	})
	return err
}

// unbound says what the scheduler says of a pod that it did not bind.
func (a *assignment) unbound(ctx context.Context, user *load.Client) string {
	text, err := user.Do(ctx, 0, load.Request{Method: "GET", Path: podsPath + "?limit=1&fieldSelector=spec.nodeName%3D&labelSelector=shape%3D" + a.shape})
	if err != nil {
		return err.Error()
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Status json.RawMessage `json:"status"`
		} `json:"items"`
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Items) == 0 {
		return fmt.Sprintf("no unbound pod: %v", err)
	}
	return fmt.Sprintf("%s: %.1000s", list.Items[0].Metadata.Name, list.Items[0].Status)
}

// check is the gate.
func (a *assignment) check() error {
	perNode, perZone, together := map[string]int{}, map[string]int{}, map[string]string{}
	for pod, node := range a.nodes {
		perNode[node]++
		var number int
		if _, err := fmt.Sscanf(node, "node-%d", &number); err != nil {
			return fmt.Errorf("%s is on an unknown node %q", pod, node)
		}
		perZone[zoneOf(number)]++
		key := a.groups[pod] + " " + node
		if other, taken := together[key]; taken && a.shape == "apart" {
			return fmt.Errorf("%s and %s are both on %s", pod, other, node)
		}
		together[key] = pod
	}
	for node, n := range perNode {
		if n > 110 {
			return fmt.Errorf("%s has %d pods", node, n)
		}
	}
	for zone, n := range perZone {
		if a.shape == "spread" && n != schedulePods/zones {
			return fmt.Errorf("%s has %d pods, want %d", zone, n, schedulePods/zones)
		}
	}
	return nil
}

// empty deletes the pods of a shape at once, and waits until they are gone.
func (s *subject) empty(ctx context.Context, user *load.Client, shape string) error {
	query := "?labelSelector=shape%3D" + shape
	if _, err := user.Do(ctx, 0, load.Request{Method: "DELETE", Path: podsPath + query, ContentType: load.JSON, Body: []byte(`{"gracePeriodSeconds":0}`)}); err != nil {
		return err
	}
	var left struct {
		Items []any `json:"items"`
	}
	return s.until(ctx, func() error {
		if err := s.get(ctx, podsPath+query+"&limit=1", &left); err != nil {
			return err
		}
		if len(left.Items) > 0 {
			return fmt.Errorf("pods of shape %s remain", shape)
		}
		return nil
	})
}
