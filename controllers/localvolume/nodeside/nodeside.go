// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package nodeside makes and removes the folders behind the local volumes of one node, and says in annotations of the Node
// where they are and which there are. Writing its own Node is all that a node may do; the rest is the provisioner's.
//
// A folder is made before the annotation names it and removed after the volume was released, and only folders of volumes
// that say so are ever removed: a folder without a volume is left alone.
package nodeside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/volumes"
)

// Provisioner is what StorageClasses call the provisioner of these folders.
const Provisioner = "kogge.dev/local"

// Annotations of the protocol between provisioner and nodes.
const (
	// RootAnnotation of a Node: the folder that its volumes lie in. A node without it offers none.
	RootAnnotation = "kogge.dev/local-volumes-root"
	// HeldAnnotation of a Node: the volumes it has folders of, sorted, with commas between.
	HeldAnnotation = "kogge.dev/local-volumes"
	// NodeAnnotation of a PersistentVolume: the node that holds it.
	NodeAnnotation = "kogge.dev/local-volume-node"
)

// NodeOf returns the node that holds a volume, and whether the volume is one of the provisioner's.
func NodeOf(pv *corev1.PersistentVolume) (string, bool) {
	node := pv.Annotations[NodeAnnotation]
	return node, node != "" && pv.Annotations[volumes.ProvisionedBy] == Provisioner
}

// Doomed reports whether a volume's content is to be removed.
func Doomed(pv *corev1.PersistentVolume) bool {
	if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return false
	}
	return pv.Status.Phase == corev1.VolumeReleased || pv.Status.Phase == corev1.VolumeFailed || pv.DeletionTimestamp != nil && pv.Status.Phase != corev1.VolumeBound
}

// Holds reports whether a node says that it has the folder of a volume.
func Holds(node *corev1.Node, volume string) bool {
	return slices.Contains(strings.Split(node.Annotations[HeldAnnotation], ","), volume)
}

// Config of a Driver. All fields are required.
type Config struct {
	NodeName string
	// Root is the absolute path of the folder that holds the volumes' folders. The driver makes it.
	Root string
	// Informers may read persistentvolumes and nodes.
	Informers *client.Informers
	// Client may patch this node's Node.
	Client *client.Client
	Log    *slog.Logger
}

// Driver keeps the folders of one node.
type Driver struct {
	config  Config
	volumes *client.Informer[*corev1.PersistentVolume]
	nodes   *client.Informer[*corev1.Node]
	loop    *reconcile.Loop
}

// New makes a driver. Nothing is touched before Run.
func New(config Config) (*Driver, error) {
	if config.NodeName == "" || !filepath.IsAbs(config.Root) || config.Informers == nil || config.Client == nil || config.Log == nil {
		return nil, errors.New("local volumes: node name, an absolute root, informers, client and log are required")
	}
	d := &Driver{
		config: config, volumes: client.InformerFor[*corev1.PersistentVolume](config.Informers), nodes: client.InformerFor[*corev1.Node](config.Informers),
	}
	d.loop = reconcile.New(reconcile.Config{Name: "local-volumes", Log: config.Log, Informers: config.Informers, Reconcile: d.reconcile})
	reconcile.On(d.loop, d.volumes, func(pv *corev1.PersistentVolume) []reconcile.Key {
		if node, ours := NodeOf(pv); !ours || node != config.NodeName {
			return nil
		}
		return []reconcile.Key{reconcile.KeyOf(pv)}
	})
	// The Node may be registered late, or anew without annotations.
	reconcile.On(d.loop, d.nodes, func(node *corev1.Node) []reconcile.Key {
		if node.Name != config.NodeName {
			return nil
		}
		return []reconcile.Key{{}}
	})
	return d, nil
}

// Run keeps the folders until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	if err := os.MkdirAll(d.config.Root, 0o711); err != nil {
		return fmt.Errorf("local volumes: %w", err)
	}
	return d.loop.Run(ctx)
}

// reconcile makes or removes the folder of one volume, or none for the empty key, and reports.
func (d *Driver) reconcile(ctx context.Context, key reconcile.Key) error {
	if pv, ok := d.volumes.Get("", key.Name); ok {
		if err := d.folder(pv); err != nil {
			return err
		}
	} else if key.Name != "" {
		// Made too late for a volume that was gone already. Remove keeps what has content.
		_ = os.Remove(filepath.Join(d.config.Root, key.Name))
	}
	return d.report(ctx)
}

func (d *Driver) folder(pv *corev1.PersistentVolume) error {
	path := filepath.Join(d.config.Root, pv.Name)
	// The name is checked against the path that pods get, so that nothing outside of the root is ever touched.
	if pv.Spec.Local == nil || pv.Spec.Local.Path != path || filepath.Dir(path) != d.config.Root {
		return reconcile.Terminal(fmt.Errorf("local volume %s does not lie in %s", pv.Name, d.config.Root))
	}
	if Doomed(pv) {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove local volume %s: %w", pv.Name, err)
		}
		return nil
	}
	if pv.DeletionTimestamp != nil || pv.Status.Phase == corev1.VolumeReleased {
		return nil
	}
	err := os.Mkdir(path, 0o777)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make local volume %s: %w", pv.Name, err)
	}
	// Whatever the umask: containers run as any user, and only those that mount the folder can reach it.
	return os.Chmod(path, 0o777)
}

// report writes the annotations if they differ from what is there.
func (d *Driver) report(ctx context.Context) error {
	node, ok := d.nodes.Get("", d.config.NodeName)
	if !ok {
		return nil
	}
	entries, err := os.ReadDir(d.config.Root)
	if err != nil {
		return fmt.Errorf("local volumes: %w", err)
	}
	var names []string // sorted, as ReadDir is
	for _, e := range entries {
		if pv, known := d.volumes.Get("", e.Name()); known && e.IsDir() {
			if on, ours := NodeOf(pv); ours && on == d.config.NodeName {
				names = append(names, e.Name())
			}
		}
	}
	want := map[string]string{RootAnnotation: d.config.Root, HeldAnnotation: strings.Join(names, ",")}
	if node.Annotations[RootAnnotation] == want[RootAnnotation] && node.Annotations[HeldAnnotation] == want[HeldAnnotation] {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": want}})
	if err != nil {
		return err
	}
	if _, err := client.Of[*corev1.Node](d.config.Client).Patch(ctx, "", node.Name, types.MergePatchType, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("report local volumes of %s: %w", node.Name, err)
	}
	return nil
}
