// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// mountContent writes a volume whose files come from API objects.
func (v *Volumes) mountContent(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) (time.Time, error) {
	files, next, err := v.content(ctx, p, vol)
	if err != nil {
		return time.Time{}, err
	}
	dir := v.dir(p.UID, pluginOf(&vol.VolumeSource), vol.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return time.Time{}, err
	}
	if vol.ConfigMap == nil {
		// Secrets and tokens never reach a disk.
		if err := ensureMemory(dir, "tmpfs", unix.TMPFS_MAGIC, "mode=0755"); err != nil {
			return time.Time{}, err
		}
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		return time.Time{}, err
	}
	group := fsGroup(p)
	_, err = writeAtomically(dir, files, func(fresh string) error {
		if group == nil {
			return nil
		}
		return own(fresh, *group, true) // these volumes are read-only to the pod
	})
	if err == nil && group != nil {
		err = ownEntry(dir, *group, true, true)
	}
	return next, err
}

func fsGroup(p *corev1.Pod) *int64 {
	if p.Spec.SecurityContext == nil {
		return nil
	}
	return p.Spec.SecurityContext.FSGroup
}

// fsUser is the user that all containers of the pod run as, if they agree on one.
func fsUser(p *corev1.Pod) *int64 {
	var user *int64
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			var own *int64
			if sc := list[i].SecurityContext; sc != nil {
				own = sc.RunAsUser
			}
			if own == nil && p.Spec.SecurityContext != nil {
				own = p.Spec.SecurityContext.RunAsUser
			}
			if own == nil || user != nil && *user != *own {
				return nil
			}
			user = own
		}
	}
	return user
}

func modeOf(own, byDefault *int32) os.FileMode {
	switch {
	case own != nil:
		return os.FileMode(*own)
	case byDefault != nil:
		return os.FileMode(*byDefault)
	}
	return 0o644
}

func (v *Volumes) content(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) (map[string]file, time.Time, error) {
	files := map[string]file{}
	var none time.Time
	switch s := &vol.VolumeSource; {
	case s.ConfigMap != nil:
		return files, none, v.addConfigMap(ctx, p, files, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.DefaultMode, s.ConfigMap.Optional)
	case s.Secret != nil:
		return files, none, v.addSecret(ctx, p, files, s.Secret.SecretName, s.Secret.Items, s.Secret.DefaultMode, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return files, none, v.addDownward(p, files, s.DownwardAPI.Items, s.DownwardAPI.DefaultMode)
	default:
		next, err := v.addProjected(ctx, p, files, s.Projected)
		return files, next, err
	}
}

func (v *Volumes) addProjected(ctx context.Context, p *corev1.Pod, files map[string]file, s *corev1.ProjectedVolumeSource) (time.Time, error) {
	var next time.Time
	var errs []error
	for i := range s.Sources {
		switch source := &s.Sources[i]; {
		case source.ConfigMap != nil:
			errs = append(errs, v.addConfigMap(ctx, p, files, source.ConfigMap.Name, source.ConfigMap.Items, s.DefaultMode, source.ConfigMap.Optional))
		case source.Secret != nil:
			errs = append(errs, v.addSecret(ctx, p, files, source.Secret.Name, source.Secret.Items, s.DefaultMode, source.Secret.Optional))
		case source.DownwardAPI != nil:
			errs = append(errs, v.addDownward(p, files, source.DownwardAPI.Items, s.DefaultMode))
		case source.ServiceAccountToken != nil:
			t := source.ServiceAccountToken
			token, refresh, err := v.tokens.get(ctx, p, t)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if next.IsZero() || refresh.Before(next) {
				next = refresh
			}
			f := file{data: []byte(token), mode: modeOf(nil, s.DefaultMode)}
			if user := fsUser(p); user != nil || fsGroup(p) != nil {
				f.mode, f.uid = 0o600, user
			}
			files[t.Path] = f
		case source.ClusterTrustBundle != nil:
			errs = append(errs, errors.New("clusterTrustBundle projection is not supported by this node"))
		case source.PodCertificate != nil:
			errs = append(errs, errors.New("podCertificate projection is not supported by this node"))
		}
	}
	return next, errors.Join(errs...)
}

func optional(b *bool) bool { return b != nil && *b }

func (v *Volumes) addConfigMap(ctx context.Context, p *corev1.Pod, files map[string]file, name string, items []corev1.KeyToPath, mode *int32, opt *bool) error {
	cm, err := v.config.ConfigMap(ctx, p.Namespace, name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional(opt) {
			return nil
		}
		return err
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, value := range cm.Data {
		data[k] = []byte(value)
	}
	maps.Copy(data, cm.BinaryData)
	return project(files, data, items, mode, optional(opt), "configmap")
}

func (v *Volumes) addSecret(ctx context.Context, p *corev1.Pod, files map[string]file, name string, items []corev1.KeyToPath, mode *int32, opt *bool) error {
	s, err := v.config.Secret(ctx, p.Namespace, name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional(opt) {
			return nil
		}
		return err
	}
	return project(files, s.Data, items, mode, optional(opt), "secret")
}

// project selects keys: all of them under their own names, or the listed ones under the given paths.
func project(files map[string]file, data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional bool, kind string) error {
	if len(items) == 0 {
		for k, value := range data {
			files[k] = file{data: value, mode: modeOf(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			if kind == "configmap" {
				return fmt.Errorf("configmap references non-existent config key: %s", item.Key)
			}
			return fmt.Errorf("references non-existent secret key: %s", item.Key)
		}
		files[item.Path] = file{data: value, mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func (v *Volumes) addDownward(p *corev1.Pod, files map[string]file, items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	facts := v.config.Facts(p)
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = facts.Field(p, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = facts.Resource(p, nil, item.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		files[item.Path] = file{data: []byte(value), mode: modeOf(item.Mode, mode)}
	}
	return nil
}
