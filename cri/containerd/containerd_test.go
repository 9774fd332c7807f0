// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd/embedded"
	"kogge.dev/kogge/internal/need"
)

// TestMain lets the test binary be the containerd child that the supervisor starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// node starts a containerd of its own and removes every trace of it at the end of the test.
func node(t *testing.T) (Config, *supervised) {
	t.Helper()
	need.Root(t, "containerd mounts and makes cgroups")
	need.No(t, "helper programs", embedded.Check())
	base, err := os.MkdirTemp("/tmp", "kogge-rt-") //nolint:usetesting // Unix sockets lie in it: its path must be short.
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		DataDir: filepath.Join(base, "data"), RunDir: filepath.Join(base, "run"), NodeName: filepath.Base(base),
		CNIConfDir: filepath.Join(base, "cni"), CNIBinDirs: []string{filepath.Join(base, "bin")},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if t.Failed() {
			t.Logf("containerd's log ends with:\n%s", tail(config.LogFile()))
		}
		if err := Purge(ctx, config); err != nil {
			t.Errorf("Purge: %v", err)
		}
		if err := os.RemoveAll(base); err != nil {
			t.Errorf("remove %s: %v", base, err)
		}
	})
	return config, supervise(t, config)
}

// supervised is a supervisor that runs; stop ends its Run and is called at the end of the test at the latest.
type supervised struct {
	*Supervisor

	stop func()
}

// supervise runs a supervisor and waits for it to be ready.
func supervise(t *testing.T, config Config) *supervised {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx)
		cancel()
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return &supervised{Supervisor: s, stop: stop}
}

func TestRestartAdoptsAndPauseIsPinned(t *testing.T) {
	config, s := node(t)
	first, err := Inspect(config)
	if err != nil || first.PID == 0 {
		t.Fatalf("Inspect = %+v, %v, want a process", first, err)
	}
	began := time.Now()
	supervise(t, config)
	t.Logf("adopted in %v", time.Since(began))
	second, err := Inspect(config)
	if err != nil || second != first {
		t.Errorf("second supervisor: Inspect = %+v, %v, want %+v", second, err, first)
	}
	r, err := cri.Connect(t.Context(), s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	status, err := r.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: DefaultPauseImage}})
	if err != nil || status.Image == nil || !status.Image.Pinned {
		t.Errorf("ImageStatus(%s) = %v, %v, want a pinned image", DefaultPauseImage, status, err)
	}
}

func TestKilledContainerdIsStartedAgain(t *testing.T) {
	config, s := node(t)
	before, err := Inspect(config)
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(before.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := waitExit(t.Context(), before.PID); err == nil {
		t.Fatal("waitExit = nil, want an error that says so")
	}
	r, err := cri.Connect(t.Context(), s.Socket())
	if err != nil {
		t.Fatalf("Connect after kill: %v", err)
	}
	defer r.Close()
	after, err := Inspect(config)
	if err != nil || after.PID == 0 || after.PID == before.PID {
		t.Errorf("Inspect = %+v, %v, want another process than %d", after, err, before.PID)
	}
}

func TestImportKeepsNamesOfPlainAndCompressedArchives(t *testing.T) {
	_, s := node(t)
	for _, c := range []struct {
		name, image string
		pack        func(t *testing.T, data []byte) []byte
	}{
		{"plain", "example.test/a:1", func(_ *testing.T, data []byte) []byte { return data }},
		{"gzip", "example.test/b:1", gzipped},
		{"zstd", "example.test/c:1", zstandard},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Import(t.Context(), s.Socket(), bytes.NewReader(c.pack(t, testArchive(t, c.image))))
			if err != nil || len(got) != 1 || got[0].Name != c.image {
				t.Fatalf("Import = %+v, %v, want image %s", got, err, c.image)
			}
		})
	}
	list, err := Images(t.Context(), s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, image := range list {
		names = append(names, image.Name)
	}
	want := "example.test/a:1 example.test/b:1 example.test/c:1 " + DefaultPauseImage
	if got := strings.Join(names, " "); got != want {
		t.Errorf("Images = %s, want %s", got, want)
	}
	for name, data := range map[string][]byte{
		"no archive": []byte("this is no archive at all"), "empty": {}, "unnamed": testArchive(t, ""), "cut": testArchive(t, "x/y:1")[:2000],
	} {
		if got, err := Import(t.Context(), s.Socket(), bytes.NewReader(data)); !errors.Is(err, ErrArchive) {
			t.Errorf("Import(%s) = %v, %v, want ErrArchive", name, got, err)
		}
	}
}

func testArchive(t *testing.T, name string) []byte {
	t.Helper()
	r, err := pauseArchive([]byte("#!/bin/true"), name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(data, nil)
}

func TestConfigRefusesWhatCannotWork(t *testing.T) {
	good := Config{DataDir: "/var/lib/kogge/containerd", RunDir: "/run/kogge/containerd", NodeName: "a"}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"relative data folder": {func(c *Config) { c.DataDir = "x" }, "DataDir"},
		"one folder for both":  {func(c *Config) { c.RunDir = c.DataDir }, "both"},
		"socket path too long": {func(c *Config) { c.RunDir = "/" + strings.Repeat("r", 90) }, "socket path"},
		"no node name":         {func(c *Config) { c.NodeName = ""; c.CgroupRoot = "/kogge/x" }, "NodeName"},
		"cgroup root":          {func(c *Config) { c.CgroupRoot = "/" }, "CgroupRoot"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			c.change(&config)
			if _, err := New(config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New = %v, want an error that mentions %s", err, c.want)
			}
		})
	}
	if _, err := New(good); err != nil {
		t.Errorf("New(good) = %v", err)
	}
	if dir := (Config{RunDir: "/" + strings.Repeat("r", 60)}).shimSocketDir(); len(dir) > maxSocketDir {
		t.Errorf("shimSocketDir = %s, %d bytes, want at most %d", dir, len(dir), maxSocketDir)
	}
}
