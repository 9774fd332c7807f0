// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const (
	maps = "/api/v1/namespaces/default/configmaps"
	// tooLong is above the 3 MiB that a body may have.
	tooLong = 3<<20 + 1
)

// TestGiantBodies sends bodies of 64 MB to every verb that takes one. Each is refused with 413 after 3 MiB, whether its length is told or not.
func TestGiantBodies(t *testing.T) {
	s := lay(t)
	s.under(t, 256<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		giant := bytes.Repeat([]byte(" "), 64<<20) // The attacker's own memory counts.
		for _, r := range []struct{ method, path, kind string }{
			{http.MethodPost, maps, "application/json"},
			{http.MethodPost, maps, "application/yaml"},
			{http.MethodPost, maps, "application/vnd.kubernetes.protobuf"},
			{http.MethodPut, maps + "/mine", "application/json"},
			{http.MethodPatch, maps + "/mine", "application/merge-patch+json"},
			{http.MethodPatch, maps + "/mine", "application/json-patch+json"},
			{http.MethodPatch, maps + "/mine", "application/strategic-merge-patch+json"},
			{http.MethodPatch, maps + "/mine?fieldManager=a", "application/apply-patch+yaml"},
			{http.MethodDelete, maps + "/mine", "application/json"},
			{http.MethodDelete, maps, "application/json"},
		} {
			text := c.want(t, http.StatusRequestEntityTooLarge, r.method, r.path, giant[:tooLong], "Content-Type", r.kind, "Accept", "application/json")
			if !strings.Contains(text, `"reason":"RequestEntityTooLarge"`) {
				t.Errorf("%s %s answers %s, want the reason RequestEntityTooLarge", r.method, r.path, text)
			}
			// All of it may end in a reset while it is still being sent: what counts is that it is not taken.
			if code, _, err := c.do(t.Context(), r.method, r.path, giant, "Content-Type", r.kind); err == nil && code != http.StatusRequestEntityTooLarge {
				t.Errorf("%s %s of 64 MB = %d, want 413", r.method, r.path, code)
			}
		}
	})
}

// nested is a document of n objects, each in the one before.
func nested(n int) []byte {
	return []byte(`{"metadata":{"name":"nested"},"data":` + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) + "}")
}

// laughs is YAML in which each of n lists repeats the one before nine times.
func laughs(n int) []byte {
	var out strings.Builder
	out.WriteString("metadata: {name: laughs}\na0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&out, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	return []byte(out.String())
}

// TestDeepDocuments sends JSON and YAML that is nested 100,000 deep, as object, as list and as patch, aliases that would unfold to billions of
// values, and keys by the hundred thousand. A decoder without bounds would run out of stack, which no recover can catch, or of memory.
func TestDeepDocuments(t *testing.T) {
	s := lay(t)
	const depth = 100_000
	lists := []byte(`{"metadata":{"name":"nested","finalizers":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}}")
	flow := []byte("metadata: {name: nested}\ndata: " + strings.Repeat("{a: ", depth) + "1" + strings.Repeat("}", depth))
	var block strings.Builder // Block style costs the square of the depth in bytes.
	for i := range 2000 {
		fmt.Fprintf(&block, "%sa:\n", strings.Repeat(" ", i))
	}
	operations := []byte(`[{"op":"add","path":"/data/a","value":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}]")
	pointer := []byte(`[{"op":"add","path":"` + strings.Repeat("/a", depth) + `","value":1}]`)
	var keys strings.Builder
	keys.WriteString(`{"metadata":{"name":"keys"},"data":{`)
	for i := range 150_000 {
		fmt.Fprintf(&keys, `"k":"%d",`, i)
	}
	keys.WriteString(`"z":"z"}}`)
	s.under(t, 512<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		refused := func(method, path, kind string, body []byte) {
			t.Helper()
			code, data, err := c.do(t.Context(), method, path, body, "Content-Type", kind, "Accept", "application/json")
			if err != nil || code < 400 || code >= 500 {
				t.Errorf("%s %s of %s beginning with %.40q = %d, %v: %.200s; want it refused", method, path, kind, body, code, err, data)
			}
		}
		for _, body := range [][]byte{nested(depth), lists, operations} {
			refused(http.MethodPost, maps, "application/json", body)
			refused(http.MethodPut, maps+"/mine", "application/json", body)
			refused(http.MethodDelete, maps+"/absent", "application/json", body)
			refused(http.MethodPatch, maps+"/mine", "application/merge-patch+json", body)
			refused(http.MethodPatch, maps+"/mine", "application/strategic-merge-patch+json", body)
			refused(http.MethodPatch, maps+"/mine", "application/json-patch+json", body)
			refused(http.MethodPatch, maps+"/mine?fieldManager=a", "application/apply-patch+yaml", body)
		}
		refused(http.MethodPatch, maps+"/mine", "application/json-patch+json", pointer)
		for _, body := range [][]byte{flow, []byte(block.String()), laughs(10), laughs(40)} {
			refused(http.MethodPost, maps, "application/yaml", body)
			refused(http.MethodPut, maps+"/mine", "application/yaml", body)
			refused(http.MethodPatch, maps+"/mine?fieldManager=a", "application/apply-patch+yaml", body)
		}
		// One key 150,000 times: the last counts, and a warning of each would be more than a client can read.
		code, _, err := c.do(t.Context(), http.MethodPost, maps, []byte(keys.String()), "Content-Type", "application/json")
		if err != nil || code != http.StatusCreated {
			t.Errorf("create with a key that is there 150,000 times = %d, %v, want 201", code, err)
		}
	})
}

// TestLyingLengths sends protobuf whose lengths say more than there is, or more than an int holds, and groups in groups, in the envelope and in
// the object.
func TestLyingLengths(t *testing.T) {
	s := lay(t)
	envelope := func(raw []byte) []byte {
		out := append([]byte("k8s\x00"), 10, 15, 10, 2, 'v', '1', 18, 9)
		out = append(out, "ConfigMap"...)
		return append(binary.AppendUvarint(append(out, 18), uint64(len(raw))), raw...)
	}
	lie := func(field int, length uint64) []byte { return binary.AppendUvarint([]byte{byte(field<<3 | 2)}, length) }
	groups := bytes.Repeat([]byte{15<<3 | 3}, 1_000_000)
	deep := []byte{}
	for range 300 { // Each level says that the rest is inside.
		deep = append(binary.AppendUvarint([]byte{10}, uint64(len(deep))), deep...)
	}
	s.under(t, 256<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		for _, length := range []uint64{1 << 20, 1<<31 - 1, 1 << 31, 1 << 32, 1<<62 - 1, 1<<63 - 1, 1<<64 - 1} {
			for _, body := range [][]byte{
				append([]byte("k8s\x00"), lie(1, length)...), append([]byte("k8s\x00"), lie(2, length)...), envelope(lie(1, length)), envelope(lie(2, length)),
				envelope(lie(3, length)), envelope(append([]byte{10, 12}, lie(11, length)...)),
			} {
				c.want(t, http.StatusBadRequest, http.MethodPost, maps, body, "Content-Type", "application/vnd.kubernetes.protobuf", "Accept", "application/json")
			}
		}
		for _, body := range [][]byte{envelope(groups), append([]byte("k8s\x00"), groups...)} {
			c.want(t, http.StatusBadRequest, http.MethodPost, maps, body, "Content-Type", "application/vnd.kubernetes.protobuf", "Accept", "application/json")
		}
		code, _, err := c.do(t.Context(), http.MethodPost, maps, envelope(deep), "Content-Type", "application/vnd.kubernetes.protobuf")
		if err != nil || code < 400 || code >= 500 {
			t.Errorf("fields in fields = %d, %v, want it refused", code, err)
		}
	})
}

// TestCompressedBodies sends a gigabyte of spaces as a megabyte of gzip. The server does not unfold bodies, as upstream does not: what comes is no
// JSON.
func TestCompressedBodies(t *testing.T) {
	s := lay(t)
	var part bytes.Buffer
	zip := gzip.NewWriter(&part)
	if _, err := zip.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Repeat(part.Bytes(), 1024) // Parts, one after the other, are one stream.
	s.under(t, 128<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		for range 20 {
			c.want(t, http.StatusBadRequest, http.MethodPost, maps, bomb, "Content-Type", "application/json", "Content-Encoding", "gzip")
		}
	})
}
