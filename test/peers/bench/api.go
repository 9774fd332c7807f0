// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
)

// namespace holds what benchmarks make.
const namespace = "bench"

// object is an API object as JSON has it.
type object = map[string]any

// create posts an object.
func (s *subject) create(ctx context.Context, path string, o object) error {
	_, err := s.admin.Do(ctx, 0, load.Request{Method: "POST", Path: path, ContentType: load.JSON, Body: encode(o)})
	return err
}

// encode makes JSON of what holds only strings, numbers, maps and lists.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return text
}

// get reads an object into a value.
func (s *subject) get(ctx context.Context, path string, into any) error {
	text, err := s.admin.Do(ctx, 0, load.Request{Method: "GET", Path: path, Accept: load.JSON})
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// userGroup is the group of the load's user.
const userGroup = "bench:load"

// user makes the load's user: not a member of system:masters, whom servers let pass unasked, but one whose rights come from RBAC. Its
// certificate comes from the cluster's own signer. It is exempt from flow control, which measures nothing here. The namespace and its
// service account are there when user returns.
func (s *subject) user(ctx context.Context, conns int) (*load.Client, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "load", Organization: []string{userGroup}}}, key)
	if err != nil {
		return nil, err
	}
	subjects := []object{{"kind": "Group", "name": userGroup, "apiGroup": "rbac.authorization.k8s.io"}}
	for path, o := range map[string]object{
		"/api/v1/namespaces": {"metadata": object{"name": namespace}},
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": {
			"metadata": object{"name": "bench-load"}, "subjects": subjects,
			"roleRef": object{"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"},
		},
		"/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas": {
			"metadata": object{"name": "bench-load"},
			"spec": object{"matchingPrecedence": 2, "priorityLevelConfiguration": object{"name": "exempt"}, "rules": []object{{
				"subjects":         []object{{"kind": "Group", "group": object{"name": userGroup}}},
				"resourceRules":    []object{{"verbs": []string{"*"}, "apiGroups": []string{"*"}, "resources": []string{"*"}, "namespaces": []string{"*"}, "clusterScope": true}},
				"nonResourceRules": []object{{"verbs": []string{"*"}, "nonResourceURLs": []string{"*"}}},
			}}},
		},
	} {
		if err := s.create(ctx, path, o); err != nil {
			return nil, err
		}
	}
	cert, err := s.sign(ctx, request)
	if err != nil {
		return nil, err
	}
	ready := func() error {
		var account object
		return s.get(ctx, "/api/v1/namespaces/"+namespace+"/serviceaccounts/default", &account)
	}
	if err := s.until(ctx, ready); err != nil {
		return nil, err
	}
	identity := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.trust, Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	return load.New(s.server, identity, conns), nil
}

// sign has the cluster sign a client certificate and returns it.
func (s *subject) sign(ctx context.Context, request []byte) ([]byte, error) {
	const path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	csr := object{
		"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": object{"name": "bench-load"},
		"spec": object{
			"request":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
			"signerName": "kubernetes.io/kube-apiserver-client", "usages": []string{"client auth"},
		},
	}
	if err := s.create(ctx, path, csr); err != nil {
		return nil, err
	}
	if err := s.get(ctx, path+"/bench-load", &csr); err != nil {
		return nil, err
	}
	csr["status"] = object{"conditions": []object{{"type": "Approved", "status": "True", "reason": "Bench"}}}
	approval := load.Request{Method: "PUT", Path: path + "/bench-load/approval", ContentType: load.JSON, Body: encode(csr)}
	if _, err := s.admin.Do(ctx, 0, approval); err != nil {
		return nil, err
	}
	var block *pem.Block
	err := s.until(ctx, func() error {
		var signed struct {
			Status struct {
				Certificate []byte `json:"certificate"`
			} `json:"status"`
		}
		if err := s.get(ctx, path+"/bench-load", &signed); err != nil {
			return err
		}
		if block, _ = pem.Decode(signed.Status.Certificate); block == nil {
			return errors.New("certificate not signed yet")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return block.Bytes, nil
}

// watch follows a path, as JSON, on connection i, and hands each event's line to f until f returns true or an error. Where the server ends
// the watch, it goes on after the last event, as every client does, and counts that.
func watch(ctx context.Context, c *load.Client, i int, path string, f func(line []byte) (bool, error)) (resumed int, err error) {
	target, err := url.Parse(path)
	if err != nil {
		return 0, err
	}
	query := target.Query()
	for {
		err := watchOnce(ctx, c, i, target.Path+"?"+query.Encode(), func(line []byte) (bool, error) {
			_, rest, _ := bytes.Cut(line, []byte(`"resourceVersion":"`))
			version, _, _ := bytes.Cut(rest, []byte(`"`))
			query.Set("resourceVersion", string(version))
			return f(line)
		})
		if !errors.Is(err, io.EOF) || !query.Has("resourceVersion") {
			return resumed, err
		}
		resumed++
	}
}

func watchOnce(ctx context.Context, c *load.Client, i int, path string, f func(line []byte) (bool, error)) error {
	res, err := c.Open(ctx, i, load.Request{Method: "GET", Path: path, Accept: load.JSON})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewReaderSize(res.Body, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		if bytes.HasPrefix(line, []byte(`{"type":"ERROR"`)) {
			return fmt.Errorf("watch %s: %s", path, line)
		}
		if done, err := f(line); done || err != nil {
			return err
		}
	}
}

// event is what most watchers look at.
type event struct {
	Type   string `json:"type"`
	Object struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			NodeName string `json:"nodeName"`
		} `json:"spec"`
		Status struct {
			Phase      string `json:"phase"`
			PodIP      string `json:"podIP"`
			Conditions []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
			} `json:"conditions"`
		} `json:"status"`
	} `json:"object"`
}

// ready tells a condition Ready that is True.
func (e *event) ready() bool {
	for _, c := range e.Object.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// await watches a path until an event satisfies f.
func (s *subject) await(ctx context.Context, path string, f func(e *event) bool) error {
	_, err := watch(ctx, s.admin, 0, path, func(line []byte) (bool, error) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, err
		}
		return f(&e), nil
	})
	return err
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Bounds of rest: a system rests that used no more than restUse of a CPU for the time of restLook; one that does not within restMost is
// measured as it is.
const (
	restLook = 250 * time.Millisecond
	restUse  = 25 * time.Millisecond
	restMost = 20 * time.Second
)

// rest waits until the system has done what it still does for what came before, such as collecting the garbage of it.
func rest(ctx context.Context) error {
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < restMost; {
		if err := pause(ctx, restLook); err != nil {
			return err
		}
		now, err := cell.CPU()
		if err != nil {
			return err
		}
		if now-used <= restUse {
			return nil
		}
		used = now
	}
	return nil
}
