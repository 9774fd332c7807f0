// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package sanity holds our CSI driver for tests (csi/fake) to the suite of the specification's authors.
package sanity

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"

	"kogge.dev/kogge/csi/fake"
)

func TestFakeDriver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("volumes are mounted: run as root")
	}
	dir := t.TempDir() // the driver's socket lies in it: the path is short enough
	driver := fake.New(fake.Config{
		Name: "fake.csi.kogge.dev", NodeID: "node-1", Dir: dir, Controller: true, Topology: map[string]string{"fake.csi.kogge.dev/zone": "a"},
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- driver.Run(ctx, dir) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if driver.Published() != 0 || driver.Staged() != 0 {
			t.Errorf("the suite left %d published and %d staged volumes", driver.Published(), driver.Staged())
		}
	})
	socket := filepath.Join(dir, "csi.sock")
	for range 100 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	config := sanity.NewTestConfig()
	config.Address = "unix:" + socket
	config.TargetPath, config.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	config.TestVolumeSize, config.TestVolumeExpandSize = 1<<30, 2<<30
	sanity.Test(t, config)
}
