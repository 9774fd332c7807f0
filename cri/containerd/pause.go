// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kogge.dev/kogge/cri/containerd/embedded"
)

// criNamespace is containerd's namespace of everything that belongs to Kubernetes.
const criNamespace = "k8s.io"

// pinnedLabel marks an image that garbage collection leaves alone: CRI reports it as pinned.
const pinnedLabel = "io.cri-containerd.pinned"

// pauseUser is the user of the pause process: no user of the machine.
const pauseUser = "65535:65535"

// pauseProvider is a plugin that imports the pause image before CRI starts to serve, so that no sandbox can be asked for
// without it. CRI requires all plugins of its service type, which orders them before itself.
func pauseProvider(name string) *plugin.Registration {
	return &plugin.Registration{
		Type: plugins.CRIServicePlugin,
		ID:   "kogge-pause",
		Requires: []plugin.Type{
			plugins.EventPlugin, plugins.LeasePlugin, plugins.SandboxStorePlugin, plugins.TransferPlugin,
			plugins.MountManagerPlugin, plugins.ServicePlugin, plugins.SnapshotPlugin,
		},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			c, err := client.New("", client.WithDefaultNamespace(criNamespace),
				client.WithDefaultPlatform(platforms.Default()), client.WithInMemoryServices(ic))
			if err != nil {
				return nil, fmt.Errorf("provide pause image: %w", err)
			}
			if err := providePause(ic, c, name); err != nil {
				return nil, fmt.Errorf("provide pause image: %w", err)
			}
			return struct{}{}, nil
		},
	}
}

// providePause imports our pause image under name, unless an image of that name with other content than an earlier pause
// of ours is there.
func providePause(ic *plugin.InitContext, c *client.Client, name string) error {
	// Calls inside the process carry no default namespace.
	ctx := namespaces.WithNamespace(ic.Context, criNamespace)
	old, err := c.ImageService().Get(ctx, name)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	binary, readErr := embedded.Read(embedded.Pause)
	if err == nil {
		if readErr != nil || old.Labels[pauseDigestLabel] == "" || old.Labels[pauseDigestLabel] == digest.FromBytes(binary).String() {
			return nil //nolint:nilerr // there is one already: that this binary has none to offer matters not
		}
	}
	if readErr != nil {
		return readErr
	}
	archive, err := pauseArchive(binary, name)
	if err != nil {
		return err
	}
	imported, err := c.Import(ctx, archive, client.WithImageLabels(map[string]string{
		pinnedLabel:      "pinned",
		pauseDigestLabel: digest.FromBytes(binary).String(),
	}))
	if err != nil {
		return err
	}
	if len(imported) != 1 {
		return fmt.Errorf("archive of the pause image held %d images", len(imported))
	}
	// Unpacked by the first sandbox otherwise, which would then be the slow one.
	snapshotter := "overlayfs"
	if _, err := ic.GetByID(plugins.SnapshotPlugin, snapshotter); err != nil {
		return nil //nolint:nilerr // native: unpacked on first use
	}
	if err := client.NewImage(c, imported[0]).Unpack(ctx, snapshotter); err != nil {
		log.G(ctx).WithError(err).Warn("pause image is not unpacked")
	}
	return nil
}

// pauseDigestLabel holds the digest of the pause program in an image made here, so that a newer kogge replaces it and
// nobody else's image of that name is touched.
const pauseDigestLabel = "dev.kogge.pause"

// pauseArchive is an OCI archive of an image that holds only the pause program.
func pauseArchive(binary []byte, name string) (io.Reader, error) {
	layer, err := tarFiles(tarFile{"pause", binary, 0o755})
	if err != nil {
		return nil, err
	}
	config, manifest, err := imageOf(layer)
	if err != nil {
		return nil, err
	}
	return imageArchive(name, layer, config, manifest)
}

// imageOf makes configuration and manifest of an image with one layer.
func imageOf(layer []byte) (config, manifest []byte, err error) {
	config, err = json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispec.ImageConfig{User: pauseUser, Entrypoint: []string{"/pause"}, WorkingDir: "/"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("write image configuration: %w", err)
	}
	manifest, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    describe(ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayer, layer)},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("write image manifest: %w", err)
	}
	return config, manifest, nil
}

// imageArchive is an OCI archive of one image under a name.
func imageArchive(name string, layer, config, manifest []byte) (io.Reader, error) {
	target := describe(ocispec.MediaTypeImageManifest, manifest)
	target.Annotations = map[string]string{images.AnnotationImageName: name}
	target.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{target},
	})
	if err != nil {
		return nil, fmt.Errorf("write image index: %w", err)
	}
	blob := func(data []byte) tarFile {
		return tarFile{"blobs/sha256/" + digest.FromBytes(data).Encoded(), data, 0o644}
	}
	out, err := tarFiles(
		tarFile{ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644},
		blob(layer), blob(config), blob(manifest), tarFile{ocispec.ImageIndexFile, index, 0o644},
	)
	return bytes.NewReader(out), err
}

// describe is the descriptor of data.
func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// tarFile is one regular file of an archive.
type tarFile struct {
	name string
	data []byte
	mode int64
}

// tarFiles writes an archive in which equal input gives equal bytes.
func tarFiles(files ...tarFile) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Format: tar.FormatUSTAR})
		if err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return out.Bytes(), nil
}
