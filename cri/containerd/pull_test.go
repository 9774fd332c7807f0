// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
)

// imageRegistry serves one image, team/app:v1, by the distribution protocol.
func imageRegistry(t *testing.T) (server *httptest.Server, manifestDigest string) {
	t.Helper()
	layer, err := tarFiles(tarFile{"app", []byte("#!/bin/app"), 0o755})
	if err != nil {
		t.Fatal(err)
	}
	config, manifest, err := imageOf(layer)
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]byte{}
	for _, b := range [][]byte{layer, config, manifest} {
		blobs[digest.FromBytes(b).String()] = b
	}
	manifestDigest = digest.FromBytes(manifest).String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/team/app/manifests/{ref}", func(w http.ResponseWriter, r *http.Request) {
		if ref := r.PathValue("ref"); ref != "v1" && ref != manifestDigest {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", manifestDigest)
		_, _ = w.Write(manifest)
	})
	mux.HandleFunc("GET /v2/team/app/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		blob, ok := blobs[r.PathValue("digest")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(blob)
	})
	server = httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, manifestDigest
}

// TestPullFromRegistryOnLoopback pulls by tag and by digest, and is refused a name that is not there.
func TestPullFromRegistryOnLoopback(t *testing.T) {
	_, s := node(t)
	server, manifestDigest := imageRegistry(t)
	host := strings.TrimPrefix(server.URL, "http://")
	r, err := cri.Connect(t.Context(), s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, ref := range []string{host + "/team/app:v1", host + "/team/app@" + manifestDigest} {
		got, err := r.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		if err != nil {
			t.Fatalf("PullImage(%s): %v", ref, err)
		}
		status, err := r.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		if err != nil || status.Image.GetId() != got.ImageRef || status.Image.Pinned {
			t.Errorf("ImageStatus(%s) = %v, %v, want %s, not pinned", ref, status, err, got.ImageRef)
		}
	}
	_, err = r.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: host + "/team/app:none"}})
	if !cri.IsNotFound(err) {
		t.Errorf("PullImage of an unknown tag: %v, want NotFound", err)
	}
}
