// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"kogge.dev/kogge/test/peers/bench/load"
)

// How many pods are written, from how many workers on how many connections.
const (
	writePods    = 1500
	writeWorkers = 8
	writeConns   = 4
)

const podsPath = "/api/v1/namespaces/" + namespace + "/pods"

// benchWrites measures creates, reads, updates, patches, applies and deletes of pods of 1 KB and 10 KB. The gate: each answer has the
// change, and at the end the stored pods are the same on both sides, managed fields included, but for names of moments and identifiers.
func benchWrites(ctx context.Context, r *round, s *subject, user *load.Client) error {
	for _, kilobytes := range []int{1, 10} {
		w := writer{round: r, subject: s, user: user, what: fmt.Sprintf("%d KB pod", kilobytes), prefix: fmt.Sprintf("p%d", kilobytes)}
		for i := range writePods {
			w.bodies = append(w.bodies, encode(samplePod(podName(w.prefix, i), kilobytes)))
		}
		if err := w.run(ctx); err != nil {
			return err
		}
	}
	return r.memory("all of them", "resident MiB after")
}

type writer struct {
	*round
	subject      *subject
	user         *load.Client
	what, prefix string
	bodies       [][]byte
}

func (w *writer) path(i int) string { return podsPath + "/" + podName(w.prefix, i) }

// run goes through the verbs in an order in which each finds what it needs.
func (w *writer) run(ctx context.Context) error {
	stored := make([][]byte, writePods)
	for _, step := range []struct {
		verb    string
		request func(i int) load.Request
		check   func(i int, body []byte) error
	}{
		{"create", func(i int) load.Request {
			return load.Request{Method: "POST", Path: podsPath, ContentType: load.JSON, Accept: load.JSON, Body: w.bodies[i]}
		}, w.holds(`"bench.test/round":"0"`)},
		{"read", func(i int) load.Request {
			return load.Request{Method: "GET", Path: w.path(i), Accept: load.JSON}
		}, func(i int, body []byte) error { stored[i] = body; return nil }},
		{"update", func(i int) load.Request {
			body := bytes.Replace(stored[i], []byte(`"bench.test/round":"0"`), []byte(`"bench.test/round":"1"`), 1)
			return load.Request{Method: "PUT", Path: w.path(i), ContentType: load.JSON, Accept: load.JSON, Body: body}
		}, w.holds(`"bench.test/round":"1"`)},
		{"patch", func(i int) load.Request {
			return load.Request{
				Method: "PATCH", Path: w.path(i), ContentType: load.Merge, Accept: load.JSON,
				Body: []byte(`{"metadata":{"annotations":{"bench.test/round":"2"},"labels":{"patched":"yes"}}}`),
			}
		}, w.holds(`"bench.test/round":"2"`)},
		{"apply", func(i int) load.Request {
			return load.Request{
				Method: "PATCH", Path: w.path(i) + "?fieldManager=applier&force=true", ContentType: load.Apply, Accept: load.JSON,
				Body: bytes.Replace(w.bodies[i], []byte(`"bench.test/round":"0"`), []byte(`"bench.test/round":"3"`), 1),
			}
		}, w.holds(`"bench.test/round":"3"`)},
	} {
		c := step.verb + " " + w.what
		err := w.profiled(ctx, w.subject, c, func() error {
			return w.operations(c, func() (load.Result, error) { return w.user.Run(ctx, writeWorkers, writePods, step.request, step.check) })
		})
		if err != nil {
			return err
		}
		if err := w.remember(ctx, c); err != nil {
			return err
		}
	}
	c := "delete " + w.what
	return w.operations(c, func() (load.Result, error) {
		return w.user.Run(ctx, writeWorkers, writePods, func(i int) load.Request { return load.Request{Method: "DELETE", Path: w.path(i)} }, nil)
	})
}

// holds checks that an answer has a text, and the resourceVersion of a stored object.
func (w *writer) holds(text string) func(i int, body []byte) error {
	return func(i int, body []byte) error {
		if !bytes.Contains(body, []byte(text)) || !bytes.Contains(body, []byte(`"resourceVersion":"`)) {
			return fmt.Errorf("answer about %s lacks %s: %.300s", w.path(i), text, body)
		}
		return nil
	}
}

// remember notes a pod as it is stored now, as a fact.
func (w *writer) remember(ctx context.Context, c string) error {
	var pod object
	if err := w.subject.get(ctx, w.path(writePods/2), &pod); err != nil {
		return err
	}
	text, err := json.Marshal(steady(pod))
	if err != nil {
		return err
	}
	w.fact(c, "the stored pod", string(text))
	return nil
}

// steady replaces what is never the same twice: identifiers, versions, moments.
func steady(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			switch {
			case key == "uid" || key == "resourceVersion" || key == "time" || strings.HasSuffix(key, "Timestamp") || strings.HasSuffix(key, "Time"):
				v[key] = "*"
			default:
				v[key] = steady(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = steady(v[i])
		}
	}
	return v
}
