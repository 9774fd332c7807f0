// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
	"kogge.dev/kogge/test/peers/bench/table"
)

// subject is a started system.
type subject struct {
	server   string
	admin    *load.Client // a member of system:masters, for setting up
	programs []*cell.Process
	// needs are sockets that must be there before a program is executed, because it would give up without them.
	needs map[*cell.Process]string
	// started is when the first program was executed; ready is how long it then took until /readyz answered ok.
	started time.Time
	ready   time.Duration
	trust   *x509.CertPool
	// importImages loads an archive of images into the node's runtime; nil without a node.
	importImages func(ctx context.Context, path string) error
}

// parts is what of a system is started.
type parts int

const (
	plane parts = iota // the control plane
	whole              // and a node
)

// podRange has a /24 for each of thousands of nodes.
const podRange = "10.128.0.0/9"

// evictionHard lets kogge's node, as kubeletConfig does upstream's, work on a disk that is nearly full.
const evictionHard = "{imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}"

// koggeDir holds a measured kogge's data.
const koggeDir = cell.Dir + "/kogge"

// start starts the system and returns when its API server is ready.
func (r *round) start(ctx context.Context, p parts) (*subject, error) {
	var s *subject
	var kubeconfig string
	var err error
	if r.system == table.Kogge {
		s, kubeconfig, err = r.prepareKogge(p)
	} else {
		s, kubeconfig, err = r.prepareUpstream(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	return s, s.run(ctx, kubeconfig)
}

// started is a benchmark of a system that runs: f gets it, and a user's client with so many connections.
func started(p parts, conns int, f func(context.Context, *round, *subject, *load.Client) error) func(context.Context, *round) error {
	return func(ctx context.Context, r *round) error {
		s, err := r.start(ctx, p)
		if err != nil {
			return err
		}
		defer s.stop()
		user, err := s.user(ctx, conns)
		if err != nil {
			return err
		}
		return f(ctx, r, s, user)
	}
}

// run lets the prepared programs start, and returns when the API server is ready and the administrator known.
func (s *subject) run(ctx context.Context, kubeconfig string) error {
	for i, program := range s.programs {
		if socket := s.needs[program]; socket != "" {
			if err := s.until(ctx, func() error { _, err := os.Stat(socket); return err }); err != nil {
				return err
			}
		}
		at, err := program.Go()
		if err != nil {
			return err
		}
		if i == 0 {
			s.started = at
		}
	}
	stranger := load.New(s.server, &tls.Config{InsecureSkipVerify: true}, 1) //nolint:gosec // it says when, nothing else
	err := s.until(ctx, func() error {
		_, err := stranger.Do(ctx, 0, load.Request{Method: "GET", Path: "/readyz"})
		return err
	})
	s.ready = time.Since(s.started)
	stranger.Close()
	if err != nil {
		return err
	}
	admin, err := readKubeconfig(kubeconfig)
	if err != nil {
		return err
	}
	s.trust, s.admin = admin.RootCAs, load.New(s.server, admin, 1)
	return nil
}

// until tries every millisecond until f succeeds. It gives up when a program of the system ends.
func (s *subject) until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, program := range s.programs {
		go func() {
			select {
			case <-program.Ended():
				cancel(program.Err())
			case <-ctx.Done():
			}
		}()
	}
	return load.Retry(ctx, time.Millisecond, f)
}

// stop ends the system, the last started first. What remains ends with the cell.
func (s *subject) stop() {
	for _, program := range slices.Backward(s.programs) {
		program.Stop(20 * time.Second)
	}
}

func (r *round) prepareKogge(p parts) (*subject, string, error) {
	args := []string{r.kogge, "server", "--data-dir", koggeDir, "--node-ip", cell.Address, "--pod-cidr", podRange, "--log-level", "warn"}
	if p == whole {
		settings := filepath.Join(cell.Dir, "settings.yaml")
		if err := os.WriteFile(settings, []byte("apiVersion: kogge.dev/v1\nkind: Config\nkubelet: {evictionHard: "+evictionHard+"}\n"), 0o644); err != nil {
			return nil, "", err
		}
		args[1] = "up"
		args = append(args, "--node-name", cell.Node, "--config", settings)
	}
	program, err := cell.Prepare(cell.Measured, filepath.Join(cell.Dir, "kogge.log"), args...)
	if err != nil {
		return nil, "", err
	}
	s := &subject{server: "https://" + cell.Address + ":6443", programs: []*cell.Process{program}}
	s.importImages = func(ctx context.Context, path string) error {
		return outside(ctx, r.kogge, "image", "import", path, "--data-dir", koggeDir)
	}
	return s, filepath.Join(koggeDir, "admin.kubeconfig"), nil
}

// readKubeconfig makes a TLS identity of a kubeconfig with one user, whose keys are in it or in files.
func readKubeconfig(path string) (*tls.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var k struct {
		Clusters []struct {
			Cluster struct {
				Authority     string `json:"certificate-authority-data"`
				AuthorityFile string `json:"certificate-authority"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Cert     string `json:"client-certificate-data"`
				CertFile string `json:"client-certificate"`
				Key      string `json:"client-key-data"`
				KeyFile  string `json:"client-key"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	if len(k.Clusters) != 1 || len(k.Users) != 1 {
		return nil, fmt.Errorf("kubeconfig %s: want one cluster and one user", path)
	}
	c, u := k.Clusters[0].Cluster, k.Users[0].User
	authority, err1 := material(c.Authority, c.AuthorityFile)
	cert, err2 := material(u.Cert, u.CertFile)
	key, err3 := material(u.Key, u.KeyFile)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}, nil
}

func material(data, file string) ([]byte, error) {
	if data != "" {
		return base64.StdEncoding.DecodeString(data)
	}
	return os.ReadFile(file)
}
