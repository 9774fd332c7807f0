// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/rules/podrefs"
)

const (
	tokenMountPath     = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolumePrefix  = "kube-api-access-"
	tokenExpiration    = 60*60 + 7 // the API server gives tokens of exactly this length a longer life
	rootCAConfigMap    = "kube-root-ca.crt"
	enforceSecretsNote = "kubernetes.io/enforce-mountable-secrets"
)

// serviceAccount gives every pod a service account, its token volume and its image pull secrets.
type serviceAccount struct{ reader admission.Reader }

func podOf(a *admission.Attributes, subresources ...string) (*corev1.Pod, bool) {
	if !a.Is("", "pods", append([]string{""}, subresources...)...) {
		return nil, false
	}
	return admission.Object[*corev1.Pod](a)
}

// Admit implements admission.Mutator.
func (p serviceAccount) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := podOf(a)
	if !ok || a.Operation != admission.Create {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return p.Validate(ctx, a)
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	sa, err := p.find(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return admission.Forbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err))
	}
	if automount(sa, pod) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		for _, ref := range sa.ImagePullSecrets {
			pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: ref.Name})
		}
	}
	return p.Validate(ctx, a)
}

// Validate implements admission.Validator.
func (p serviceAccount) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := podOf(a, "ephemeralcontainers")
	if !ok {
		return nil
	}
	if a.Operation == admission.Update && a.Subresource == "ephemeralcontainers" {
		sa, err := p.find(ctx, a.Namespace, pod.Spec.ServiceAccountName)
		if err != nil {
			return admission.Forbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err))
		}
		if enforced(sa) {
			return forbidIf(a, checkEphemeralSecrets(sa, pod))
		}
		return nil
	}
	if a.Operation != admission.Create {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return forbidIf(a, checkMirror(pod))
	}
	if pod.Spec.ServiceAccountName == "" {
		return admission.Forbiddenf(a, "no service account specified for pod %s/%s", a.Namespace, pod.Name)
	}
	sa, err := p.find(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return admission.Forbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err))
	}
	if enforced(sa) {
		return forbidIf(a, checkSecrets(sa, pod))
	}
	return nil
}

func forbidIf(a *admission.Attributes, err error) error {
	if err == nil {
		return nil
	}
	return admission.Forbidden(a, err)
}

// defaultAttempts and attemptEvery say how long a pod waits for the default account of a new namespace, which a controller
// makes moments after the namespace.
const (
	defaultAttempts = 10
	attemptEvery    = 100 * time.Millisecond
)

func (p serviceAccount) find(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	gr := schema.GroupResource{Resource: "serviceaccounts"}
	attempts := 1
	if name == "default" {
		attempts = defaultAttempts
	}
	for i := range attempts {
		if i > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(attemptEvery):
			}
		}
		sa, found, err := admission.GetAny[*corev1.ServiceAccount](ctx, p.reader, gr, namespace, name)
		if err != nil || found {
			return sa, err
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccount"}, name)
}

func automount(sa *corev1.ServiceAccount, pod *corev1.Pod) bool {
	switch {
	case pod.Spec.AutomountServiceAccountToken != nil:
		return *pod.Spec.AutomountServiceAccountToken
	case sa.AutomountServiceAccountToken != nil:
		return *sa.AutomountServiceAccountToken
	}
	return true
}

// mountToken mounts the token volume into every container that has nothing at the path yet.
func mountToken(pod *corev1.Pod) {
	name, have := "", false
	used := map[string]bool{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		used[v.Name] = true
		if strings.HasPrefix(v.Name, tokenVolumePrefix) {
			name, have = v.Name, true
		}
	}
	for name == "" || !have && used[name] {
		name = tokenVolumePrefix + rand.String(5)
	}
	needed := false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if mounts(&list[i], tokenMountPath) {
				continue
			}
			list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath})
			needed = true
		}
	}
	if needed && !have {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenVolume()}})
	}
}

func mounts(c *corev1.Container, path string) bool {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].MountPath == path {
			return true
		}
	}
	return false
}

func tokenVolume() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: new(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(tokenExpiration))}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

func checkMirror(pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return fmt.Errorf("a mirror pod may not reference service accounts")
	}
	if podrefs.Has(pod, podrefs.Secrets) {
		return fmt.Errorf("a mirror pod may not reference secrets")
	}
	if podrefs.Has(pod, podrefs.ServiceAccounts) {
		return fmt.Errorf("a mirror pod may not use ServiceAccountToken volume projections")
	}
	return nil
}

func enforced(sa *corev1.ServiceAccount) bool {
	v, _ := strconv.ParseBool(sa.Annotations[enforceSecretsNote])
	return v
}

func checkSecrets(sa *corev1.ServiceAccount, pod *corev1.Pod) error {
	mountable := map[string]bool{}
	for _, s := range sa.Secrets {
		mountable[s.Name] = true
	}
	for i := range pod.Spec.Volumes {
		if s := pod.Spec.Volumes[i].Secret; s != nil && !mountable[s.SecretName] {
			return fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", s.SecretName, sa.Name)
		}
	}
	for r := range podrefs.All(pod) {
		if r.Resource != podrefs.Secrets || r.Container == "" || mountable[r.Name] {
			continue
		}
		how := "envFrom"
		if r.Variable != "" {
			how = "envVar " + r.Variable
		}
		return fmt.Errorf("%s %s with %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret",
			r.ContainerSort, r.Container, how, r.Name, sa.Name)
	}
	pullable := map[string]bool{}
	for _, s := range sa.ImagePullSecrets {
		pullable[s.Name] = true
	}
	for i, s := range pod.Spec.ImagePullSecrets {
		if !pullable[s.Name] {
			return fmt.Errorf("imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret", i, s.Name, sa.Name)
		}
	}
	return nil
}

func checkEphemeralSecrets(sa *corev1.ServiceAccount, pod *corev1.Pod) error {
	only := pod.DeepCopy()
	only.Spec.Containers, only.Spec.InitContainers, only.Spec.Volumes, only.Spec.ImagePullSecrets = nil, nil, nil, nil
	return checkSecrets(sa, only)
}
