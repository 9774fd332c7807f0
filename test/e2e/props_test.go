// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/test/image"
)

// unplug: node 0 has no network but a loopback interface that is down, as "unshare -n" gives.
func unplug(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(cut(of(ts).namespaces[0])) }

// certificate NAME: writes tls.crt and tls.key of a server with this DNS name, and puts the certificate that vouches for it
// into the environment as CA, in base64.
func certificate(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: certificate NAME")
	}
	ca, err := pki.NewAuthority("e2e")
	ts.Check(err)
	pair, err := ca.Issue(pki.Leaf{Name: "tls", User: args[0], DNS: args})
	ts.Check(err)
	key, err := pair.KeyPEM()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("tls.crt"), pair.CertPEM(), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("tls.key"), key, 0o600))
	ts.Setenv("CA", base64.StdEncoding.EncodeToString(ca.CertPEM()))
}

// expand FILE...: replaces $NAME in the files by the variables of the story.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("expand can't fail")
	}
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(ts.ReadFile(name), ts.Getenv)), 0o644))
	}
}

// archive FORM FILE NAME: an image archive: "docker" as docker save writes it, "oci" named by containerd's annotation, "ref"
// named by the specification's.
func archive(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: archive docker|oci|ref FILE NAME")
	}
	i, err := of(ts).box.image("hello from an archive")
	ts.Check(err)
	path := ts.MkAbs(args[1])
	switch args[0] {
	case "docker":
		ts.Check(i.WriteDocker(path, args[2]))
	case "oci":
		ts.Check(i.WriteOCI(path, image.ContainerdName, args[2]))
	case "ref":
		ts.Check(i.WriteOCI(path, image.RefName, args[2]))
	default:
		ts.Fatalf("archive: unknown form %s", args[0])
	}
}

// registry USER PASSWORD: a registry on node 0 at 127.0.0.1:5000 with the images open/box:1, for everybody, and closed/box:1,
// for who knows the password. Their page says where they come from, so that they share no layer with the imported ones.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: registry USER PASSWORD")
	}
	m := of(ts)
	i, err := m.box.image("hello from the registry")
	ts.Check(err)
	handler := http.NewServeMux()
	handler.HandleFunc("GET /v2/{access}/box/{kind}/{reference}", func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		access, reference := r.PathValue("access"), r.PathValue("reference")
		if access == "closed" && (user != args[0] || password != args[1]) {
			w.Header().Set("WWW-Authenticate", `Basic realm="e2e"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
			return
		}
		if r.PathValue("kind") == "manifests" && reference == "1" {
			reference = i.Manifest.Digest
		}
		content, ok := i.Blobs[reference]
		if !ok {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}`, http.StatusNotFound)
			return
		}
		if r.PathValue("kind") == "manifests" {
			w.Header().Set("Content-Type", i.Manifest.MediaType)
		}
		sum := sha256.Sum256(content)
		w.Header().Set("Docker-Content-Digest", "sha256:"+hex.EncodeToString(sum[:]))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
	})
	var listener net.Listener
	ts.Check(m.inside(0, func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:5000")
		return err
	}))
	m.registry = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go m.registry.Serve(listener) //nolint:errcheck // ends with Close
}
