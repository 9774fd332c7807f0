// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
)

// page is how many objects a paged list asks for at a time, as kubectl does.
const page = 500

// benchLists measures lists of pods of 1 KB while 10,000 and 50,000 are stored. The gate: every list has every object once, in
// order, and the first and last are the same on both sides.
func benchLists(ctx context.Context, r *round, s *subject, user *load.Client) error {
	stored := 0
	for _, count := range []int{10_000, 50_000} {
		if _, err := user.Run(ctx, 16, count-stored, func(i int) load.Request {
			return load.Request{Method: "POST", Path: podsPath, ContentType: load.JSON, Accept: load.Protobuf, Body: encode(samplePod(podName("p", stored+i), 1))}
		}, nil); err != nil {
			return fmt.Errorf("make %d pods: %w", count, err)
		}
		stored = count
		l := lister{round: r, subject: s, user: user, count: count}
		if err := l.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

type lister struct {
	*round
	subject *subject
	user    *load.Client
	count   int
}

// run measures each way to list, several times.
func (l *lister) run(ctx context.Context) error {
	const few = 200 // lists of next to nothing: fewer would measure what else happens in the moment
	all := url.Values{}
	cached := url.Values{"resourceVersion": {"0"}}
	for _, way := range []struct {
		name   string
		query  url.Values
		accept string
		want   int
		times  int
	}{
		{"JSON", all, load.JSON, l.count, 3},
		{"protobuf", all, load.Protobuf, l.count, 3},
		{"JSON, from the cache", cached, load.JSON, l.count, 3},
		{"JSON, pages of 500", url.Values{"limit": {fmt.Sprint(page)}}, load.JSON, l.count, 3},
		{"protobuf, pages of 500", url.Values{"limit": {fmt.Sprint(page)}}, load.Protobuf, l.count, 3},
		{"JSON, one label in ten", url.Values{"labelSelector": {"tenth=t3"}}, load.JSON, l.count / 10, 5},
		{"JSON, one by field", url.Values{"fieldSelector": {"metadata.name=" + podName("p", 7777)}}, load.JSON, 1, few},
		{"JSON, none by field", url.Values{"fieldSelector": {"spec.nodeName=nowhere"}}, load.JSON, 0, few},
	} {
		c := fmt.Sprintf("list %d pods, %s", l.count, way.name)
		err := l.profiled(ctx, l.subject, c, func() error { return l.way(ctx, c, way.query, way.accept, way.want, way.times) })
		if err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	return nil
}

// way measures one way: time and CPU time per whole list, and how far it lifted the memory of the system at most. What is left to do for what
// came before is not counted.
func (l *lister) way(ctx context.Context, c string, query url.Values, accept string, want, times int) error {
	if err := rest(ctx); err != nil {
		return err
	}
	if err := cell.ResetPeak(); err != nil {
		return err
	}
	before, err := cell.Memory()
	if err != nil {
		return err
	}
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	var took time.Duration
	var first []byte
	for range times {
		begin := time.Now()
		bodies, err := l.pages(ctx, query, accept)
		if err != nil {
			return err
		}
		took += time.Since(begin)
		if first, err = l.check(bodies, accept, want); err != nil {
			return err
		}
	}
	usedAfter, err := cell.CPU()
	if err != nil {
		return err
	}
	after, err := cell.Memory()
	if err != nil {
		return err
	}
	l.less(c, "ms", milliseconds(took)/float64(times))
	l.less(c, "CPU ms", milliseconds(usedAfter-used)/float64(times))
	l.less(c, "extra MiB at most", mebibytes(max(0, after.Peak-before.RSS)))
	sum := sha256.Sum256(first)
	l.fact(c, "the first and last object", hex.EncodeToString(sum[:8]))
	return nil
}

// pages reads a list, page after page if the query limits them.
func (l *lister) pages(ctx context.Context, query url.Values, accept string) ([][]byte, error) {
	var out [][]byte
	for next := ""; ; {
		q := url.Values{}
		maps.Copy(q, query)
		if next != "" {
			q.Set("continue", next)
		}
		body, err := l.user.Do(ctx, 0, load.Request{Method: "GET", Path: podsPath + "?" + q.Encode(), Accept: accept})
		if err != nil {
			return nil, err
		}
		out = append(out, body)
		if !query.Has("limit") {
			return out, nil
		}
		if next, err = continuation(body, accept); err != nil || next == "" {
			return out, err
		}
	}
}

// continuation takes the token for the next page out of a page.
func continuation(body []byte, accept string) (string, error) {
	if accept == load.JSON {
		// The list's own metadata comes before its items, in every server's output.
		head, _, _ := bytes.Cut(body, []byte(`"items"`))
		_, rest, found := bytes.Cut(head, []byte(`"continue":"`))
		if !found {
			return "", nil
		}
		token, _, _ := bytes.Cut(rest, []byte(`"`))
		return string(token), nil
	}
	list, err := decodeList(body)
	if err != nil {
		return "", err
	}
	return list.Continue, nil
}

// decodeList reads the protobuf encoding: four bytes of magic, an envelope, the list.
func decodeList(body []byte) (*corev1.PodList, error) {
	magic := []byte("k8s\x00")
	raw, found := bytes.CutPrefix(body, magic)
	if !found {
		return nil, fmt.Errorf("not protobuf: %.20q", body)
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(raw); err != nil {
		return nil, err
	}
	list := new(corev1.PodList)
	return list, list.Unmarshal(envelope.Raw)
}

// check decodes a whole list: so many pods, each once, in order. It returns the first and the last, without what never is the same.
func (l *lister) check(bodies [][]byte, accept string, want int) ([]byte, error) {
	var pods []corev1.Pod
	for _, body := range bodies {
		list := new(corev1.PodList)
		var err error
		if accept == load.JSON {
			err = json.Unmarshal(body, list)
		} else {
			list, err = decodeList(body)
		}
		if err != nil {
			return nil, err
		}
		pods = append(pods, list.Items...)
	}
	if len(pods) != want {
		return nil, fmt.Errorf("the list has %d pods, want %d", len(pods), want)
	}
	for i := 1; i < len(pods); i++ {
		if pods[i-1].Name >= pods[i].Name {
			return nil, fmt.Errorf("%s comes before %s", pods[i-1].Name, pods[i].Name)
		}
	}
	if want == 0 {
		return nil, nil
	}
	var out []byte
	for _, pod := range []corev1.Pod{pods[0], pods[len(pods)-1]} {
		text, err := json.Marshal(pod)
		if err != nil {
			return nil, err
		}
		var o object
		if err := json.Unmarshal(text, &o); err != nil {
			return nil, err
		}
		out = append(out, encode(steady(o))...)
	}
	return out, nil
}
