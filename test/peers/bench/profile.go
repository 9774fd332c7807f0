// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
)

// profiled runs f, and where -profile asks for it, keeps the API server's profile of the first seconds of it in the scratch folder. Rows
// measured so don't count as rows of the table: asking costs.
func (r *round) profiled(ctx context.Context, s *subject, c string, f func() error) error {
	if r.profile == "" || !strings.Contains(c, r.profile) {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		text, err := s.admin.Do(ctx, 0, load.Request{Method: "GET", Path: "/debug/pprof/profile?seconds=3"})
		if err == nil {
			name := strings.ReplaceAll(c, " ", "-") + "." + r.system + ".pprof"
			err = os.WriteFile(filepath.Join(cell.Dir, name), text, 0o644)
		}
		done <- err
	}()
	if err := f(); err != nil {
		return err
	}
	return <-done
}
