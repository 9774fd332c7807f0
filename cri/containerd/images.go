// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/zstd"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
)

// Image is one entry of the node's image store.
type Image struct {
	// Name is the full reference, as "docker.io/library/nginx:1.27" or with a digest.
	Name string
	// Digest of the manifest or index that the name stands for.
	Digest string
	// Size is the sum of the compressed content for this platform, in bytes; 0 if some of it is not here.
	Size int64
	// Created is when the name was first stored here.
	Created time.Time
}

// ErrArchive is returned by Import for input that is not an image archive with names.
var ErrArchive = errors.New("not a usable image archive")

// Import reads a docker or OCI archive, plain or compressed with gzip or zstd, and stores each image in it under the
// name that the archive gives: the annotation io.containerd.image.name, org.opencontainers.image.ref.name if that is
// more than a tag, or docker's RepoTags. It returns once CRI lists the images. Nothing is stored of an archive that is
// refused.
func Import(ctx context.Context, socket string, archive io.Reader) ([]Image, error) {
	plain, err := decompress(archive)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	c, err := client.New(socket, client.WithDefaultNamespace(criNamespace), client.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect containerd %s: %w", socket, err)
	}
	defer c.Close()
	imported, err := c.Import(ctx, plain, client.WithImageRefTranslator(fullName), client.WithSkipMissing())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if len(imported) == 0 {
		return nil, fmt.Errorf("%w: it names no image; annotate the index with %s", ErrArchive, images.AnnotationImageName)
	}
	var out []Image
	for _, image := range imported {
		handle := client.NewImage(c, image)
		if err := handle.Unpack(ctx, ""); err != nil {
			return out, fmt.Errorf("unpack image %s: %w", image.Name, err)
		}
		out = append(out, describeImage(ctx, handle))
	}
	return out, awaitCRI(ctx, socket, out)
}

// Images lists the named images of the node, sorted by name. CRI's own entries by digest are left out.
func Images(ctx context.Context, socket string) ([]Image, error) {
	c, err := client.New(socket, client.WithDefaultNamespace(criNamespace), client.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect containerd %s: %w", socket, err)
	}
	defer c.Close()
	list, err := c.ListImages(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []Image
	for _, image := range list {
		if strings.HasPrefix(image.Name(), "sha256:") {
			continue
		}
		out = append(out, describeImage(ctx, image))
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func describeImage(ctx context.Context, image client.Image) Image {
	out := Image{Name: image.Name(), Digest: image.Target().Digest.String(), Created: image.Metadata().CreatedAt}
	if size, err := image.Size(ctx); err == nil {
		out.Size = size
	}
	return out
}

// awaitCRI returns when CRI knows all images: it hears of them by events, a moment after they are stored.
func awaitCRI(ctx context.Context, socket string, list []Image) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := cri.Connect(ctx, socket)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, image := range list {
		for {
			status, err := r.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: image.Name}})
			if err != nil {
				return fmt.Errorf("look up image %s: %w", image.Name, err)
			}
			if status.Image != nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("image %s is stored but CRI does not list it: %w", image.Name, ctx.Err())
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	return nil
}

// fullName turns a name from an archive into a full reference, or "" for what names no image, as a bare tag.
func fullName(name string) string {
	if !strings.ContainsAny(name, "/:@") {
		return ""
	}
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return ""
	}
	return ref.String()
}

// decompress returns the plain archive in r, whose compression shows in its first bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	switch {
	case magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		return z, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		return z.IOReadCloser(), nil
	default:
		return io.NopCloser(buffered), nil
	}
}
