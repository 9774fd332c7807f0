// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"

	"kogge.dev/kogge/test/image"
)

// boxImage holds Debian's static busybox (a shell, httpd and the rest) and our programs.
const boxImage = "kogge.test/box:1"

// box is what test images are made of: our programs, built once, by their paths.
type box struct{ programs map[string][]byte }

func newBox(dir string) (*box, error) {
	b := &box{programs: map[string][]byte{}}
	for _, name := range []string{"probe", "hook"} {
		path := filepath.Join(dir, name)
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "./"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		b.programs["bin/"+name] = content
	}
	return b, nil
}

// image is busybox with the programs, and a page that says greeting.
func (b *box) image(greeting string) (*image.Image, error) {
	files := maps.Clone(b.programs)
	files["www/index.html"] = []byte(greeting + "\n")
	layer, err := image.Busybox(context.Background(), files)
	if err != nil {
		return nil, err
	}
	return image.New(layer, ""), nil
}
