// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (w *warner) volumes(volumes []corev1.Volume, at *field.Path) {
	for i := range volumes {
		v, path := &volumes[i], at.Index(i)
		for _, gone := range []struct {
			used      bool
			name, why string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if gone.used {
				w.say(path.Child(gone.name), "%s", gone.why)
			}
		}
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			w.warnings = append(w.warnings, ClaimWarnings(&v.Ephemeral.VolumeClaimTemplate.Spec, path.Child("ephemeral", "volumeClaimTemplate", "spec"))...)
		}
	}
	for i := range volumes {
		w.overlaps(&volumes[i])
	}
}

// mapped is a file in a volume and, where a volume has several sources, the one that it comes from.
type mapped struct {
	path, source string
}

func (m mapped) String() string {
	if m.source == "" {
		return fmt.Sprintf("%q", m.path)
	}
	return fmt.Sprintf("%q (%s)", m.path, m.source)
}

// overlaps warns of files that hide one another, because they are the same or one is a directory of the other.
func (w *warner) overlaps(v *corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		w.overlapping(v.Name, fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), keysOf(v.ConfigMap.Items, ""))
	case v.Secret != nil:
		w.overlapping(v.Name, fmt.Sprintf("Secret %q", v.Secret.SecretName), keysOf(v.Secret.Items, ""))
	case v.DownwardAPI != nil:
		w.overlapping(v.Name, "DownwardAPI", filesOf(v.DownwardAPI.Items, ""))
	case v.Projected != nil:
		var all []mapped
		for _, s := range v.Projected.Sources {
			switch {
			case s == (corev1.VolumeProjection{}):
				w.warnings = append(w.warnings, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			case s.ConfigMap != nil:
				all = append(all, keysOf(s.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name))...)
			case s.Secret != nil:
				all = append(all, keysOf(s.Secret.Items, fmt.Sprintf("Secret %q", s.Secret.Name))...)
			case s.DownwardAPI != nil:
				all = append(all, filesOf(s.DownwardAPI.Items, "DownwardAPI")...)
			case s.ServiceAccountToken != nil:
				all = append(all, mapped{s.ServiceAccountToken.Path, "ServiceAccountToken"})
			}
		}
		w.overlapping(v.Name, "Projected", all)
	}
}

func keysOf(items []corev1.KeyToPath, source string) []mapped {
	var files []mapped
	for _, item := range items {
		files = append(files, mapped{item.Path, source})
	}
	return files
}

func filesOf(items []corev1.DownwardAPIVolumeFile, source string) []mapped {
	var files []mapped
	for _, item := range items {
		files = append(files, mapped{item.Path, source})
	}
	return files
}

func (w *warner) overlapping(volume, kind string, files []mapped) {
	for i := range files {
		file := mapped{strings.TrimRight(files[i].path, "/"), files[i].source}
		files[i] = file
		if file.path == "" {
			continue
		}
		for _, other := range files[:i] {
			if other.path != "" && (strings.HasPrefix(file.path+"/", other.path+"/") || strings.HasPrefix(other.path+"/", file.path+"/")) {
				w.warnings = append(w.warnings, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, kind, file, other))
			}
		}
	}
}
