// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"k8s.io/klog/v2" //nolint:depguard // plays a library
)

func TestLinesOfLibrariesAreLinesOfOurs(t *testing.T) {
	t.Cleanup(klog.ClearLogger)
	for _, c := range []struct {
		what  string
		level slog.Level
		log   func()
		want  string
	}{
		{"an error", slog.LevelInfo, func() { klog.ErrorS(errors.New("no route"), "dial", "host", "a") }, `level=ERROR msg=dial component=library err="no route" host=a`},
		{"a message", slog.LevelInfo, func() { klog.InfoS("hello") }, "level=INFO msg=hello component=library"},
		{"a message below the level", slog.LevelWarn, func() { klog.InfoS("hello") }, ""},
		{"the end of a session", slog.LevelInfo, func() { klog.ErrorS(fmt.Errorf("read: %w", net.ErrClosed), "receive") }, ""},
		{"the end of a session, for who debugs", slog.LevelDebug, func() { klog.ErrorS(fmt.Errorf("read: %w", net.ErrClosed), "receive") }, "level=DEBUG msg=receive"},
	} {
		var out bytes.Buffer
		sh := &shell{out: io.Discard, err: &out}
		sh.logger(c.level.String())
		c.log()
		klog.Flush()
		if got := out.String(); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: logged %q, want %q", c.what, got, c.want)
		}
	}
}
