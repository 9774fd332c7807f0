// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"kogge.dev/kogge/test/image"
	"kogge.dev/kogge/test/peers/bench/cell"
)

// pauseImage does nothing until it is told to end: upstream's sandbox, and the workload on both sides.
const pauseImage = "bench.test/pause:1"

// pauseArchive writes the image as an OCI archive. Its program is the one that kogge's own sandboxes run.
func (r *round) pauseArchive() (string, error) {
	program, err := os.ReadFile(filepath.Join(filepath.Dir(r.kogge), "..", "cri", "containerd", "embedded", "pause"))
	if err != nil {
		return "", fmt.Errorf("%w (make helpers builds it)", err)
	}
	layer, err := image.Program("pause", program)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cell.Dir, "pause.tar")
	return path, image.New(layer, "/pause").WriteOCI(path, image.ContainerdName, pauseImage)
}
