// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestLayoutServesItsImages(t *testing.T) {
	l, err := newLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	layer, err := l.layer(entry{"bin/tool", 0o755 | fs.ModeSetuid, []byte("#!")}, entry{"bin/sh", 0o777 | fs.ModeSymlink, []byte("tool")})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.image("registry.example/team/app:v1", imageConfig{Cmd: []string{"tool"}}, layer); err != nil {
		t.Fatal(err)
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	if l, err = openLayout(l.dir); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(l)
	defer server.Close()
	get := func(path string, status int) []byte {
		t.Helper()
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status {
			t.Fatalf("GET %s = %s, %v, want %d", path, resp.Status, err, status)
		}
		return body
	}
	get("/v2/", http.StatusOK)
	get("/v2/team/app/manifests/v2?ns=registry.example", http.StatusNotFound)
	get("/v2/team/app/blobs/sha256:../../index.json", http.StatusNotFound)
	var m manifest
	if err := json.Unmarshal(get("/v2/team/app/manifests/v1?ns=registry.example", http.StatusOK), &m); err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(bytes.NewReader(get("/v2/team/app/blobs/"+m.Layers[0].Digest, http.StatusOK)))
	for _, want := range []tar.Header{{Name: "bin/tool", Mode: 0o4755, Typeflag: tar.TypeReg}, {Name: "bin/sh", Mode: 0o777, Typeflag: tar.TypeSymlink, Linkname: "tool"}} {
		got, err := archive.Next()
		if err != nil || got.Name != want.Name || got.Mode != want.Mode || got.Typeflag != want.Typeflag || got.Linkname != want.Linkname {
			t.Errorf("layer file %+v, %v, want %+v", got, err, want)
		}
	}
}
