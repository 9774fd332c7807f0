// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Annotations that came before fields, and those that the system itself reads.
const (
	tolerationsAnnotation = "scheduler.alpha.kubernetes.io/tolerations"
	seccompLocal          = "localhost/"
)

// validateAnnotations judges those annotations of a pod or template that have a meaning.
func validateAnnotations(annotations map[string]string, spec *corev1.PodSpec, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if value, ok := annotations[corev1.MirrorPodAnnotationKey]; ok && spec.NodeName == "" {
		errs = append(errs, field.Invalid(at.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if text := annotations[tolerationsAnnotation]; text != "" {
		var tolerations []corev1.Toleration
		if err := json.Unmarshal([]byte(text), &tolerations); err != nil {
			errs = append(errs, field.Invalid(at, tolerationsAnnotation, err.Error()))
		} else {
			errs = append(errs, ValidateTolerations(tolerations, opts, at.Child(tolerationsAnnotation))...)
		}
	}
	if !opts.InvalidDeletionCost && !validDeletionCost(annotations) {
		errs = append(errs, field.Invalid(at.Key(corev1.PodDeletionCost), annotations[corev1.PodDeletionCost], "must be a 32bit integer"))
	}
	for key, value := range annotations {
		if key == corev1.SeccompPodAnnotationKey || strings.HasPrefix(key, corev1.SeccompContainerAnnotationKeyPrefix) {
			errs = append(errs, validateSeccompText(value, at.Child(key))...)
		}
		if name, ok := strings.CutPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix); ok {
			if !anyContainer(spec, func(c *corev1.Container) bool { return c.Name == name }) {
				errs = append(errs, field.Invalid(at.Key(key), name, "container not found"))
			}
			if !validAppArmorText(value) {
				errs = append(errs, field.Invalid(at.Key(key), value, fmt.Sprintf("invalid AppArmor profile name: %q", value)))
			}
		}
	}
	return errs
}

// integer admits what a number begins with when it is written as one: no plus sign, no zero but the number itself.
var integer = regexp.MustCompile(`^(0$|-|[1-9])`)

func validDeletionCost(annotations map[string]string) bool {
	text, ok := annotations[corev1.PodDeletionCost]
	if !ok {
		return true
	}
	_, err := strconv.ParseInt(text, 10, 32)
	return err == nil && integer.MatchString(text)
}

func validateSeccompText(profile string, at *field.Path) field.ErrorList {
	switch profile {
	case corev1.SeccompProfileRuntimeDefault, corev1.DeprecatedSeccompProfileDockerDefault, corev1.SeccompProfileNameUnconfined:
		return nil
	}
	if file, ok := strings.CutPrefix(profile, corev1.SeccompLocalhostProfileNamePrefix); ok {
		return validateDescending(file, at)
	}
	return field.ErrorList{field.Invalid(at, profile, "must be a valid seccomp profile")}
}

func validAppArmorText(profile string) bool {
	return profile == "" || profile == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault ||
		profile == corev1.DeprecatedAppArmorBetaProfileNameUnconfined || strings.HasPrefix(profile, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
}

// validateProfiles requires that security profiles which are given in a field and in the annotation that came before it agree.
func validateProfiles(annotations map[string]string, spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if sc := spec.SecurityContext; sc != nil {
		if text, ok := annotations[corev1.SeccompPodAnnotationKey]; ok && sc.SeccompProfile != nil {
			errs = append(errs, matchSeccomp(text, sc.SeccompProfile, at.Child("securityContext", "seccompProfile"))...)
		}
	}
	windows := spec.OS != nil && spec.OS.Name == corev1.Windows
	visit(spec, at, func(c *corev1.Container, path *field.Path) {
		appArmor := podAppArmor(spec)
		if sc := c.SecurityContext; sc != nil {
			if text, ok := annotations[corev1.SeccompContainerAnnotationKeyPrefix+c.Name]; ok && sc.SeccompProfile != nil {
				errs = append(errs, matchSeccomp(text, sc.SeccompProfile, path.Child("securityContext", "seccompProfile"))...)
			}
			if sc.AppArmorProfile != nil {
				appArmor = sc.AppArmorProfile
			}
		}
		if text, ok := annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]; ok && appArmor != nil && !windows {
			errs = append(errs, matchAppArmor(text, appArmor, path.Child("securityContext", "appArmorProfile"))...)
		}
	})
	return errs
}

func matchSeccomp(text string, profile *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	file, local := strings.CutPrefix(text, seccompLocal)
	matches := true
	switch profile.Type {
	case corev1.SeccompProfileTypeUnconfined:
		matches = text == corev1.SeccompProfileNameUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		matches = text == corev1.SeccompProfileRuntimeDefault || text == corev1.DeprecatedSeccompProfileDockerDefault
	case corev1.SeccompProfileTypeLocalhost:
		matches = local
	}
	if !matches {
		return field.ErrorList{field.Forbidden(at.Child("type"), "seccomp type in annotation and field must match")}
	}
	if profile.Type == corev1.SeccompProfileTypeLocalhost && (profile.LocalhostProfile == nil || *profile.LocalhostProfile != file) {
		return field.ErrorList{field.Forbidden(at.Child("localhostProfile"), "seccomp profile in annotation and field must match")}
	}
	return nil
}

func matchAppArmor(text string, profile *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	name, local := strings.CutPrefix(text, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
	matches := true
	switch profile.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		matches = text == corev1.DeprecatedAppArmorBetaProfileNameUnconfined
	case corev1.AppArmorProfileTypeRuntimeDefault:
		matches = text == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
	case corev1.AppArmorProfileTypeLocalhost:
		matches = local
	}
	if !matches {
		return field.ErrorList{field.Forbidden(at.Child("type"), "apparmor type in annotation and field must match")}
	}
	if profile.Type == corev1.AppArmorProfileTypeLocalhost && (profile.LocalhostProfile == nil || *profile.LocalhostProfile != name) {
		return field.ErrorList{field.Forbidden(at.Child("localhostProfile"), "apparmor profile in annotation and field must match")}
	}
	return nil
}

// appArmorOf returns the profile that an annotation stands for, or nil.
func appArmorOf(text string) *corev1.AppArmorProfile {
	switch text {
	case corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	}
	if name, ok := strings.CutPrefix(text, corev1.DeprecatedAppArmorBetaProfileNamePrefix); ok && name != "" {
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return nil
}

// TakeAppArmorAnnotations moves the AppArmor profiles that a new pod gives in annotations into its containers' fields,
// unless the field is set or the pod as a whole has the same profile. It returns the containers that should have had the field instead of an
// annotation, in order.
func TakeAppArmorAnnotations(pod *corev1.Pod) (left []string) {
	if pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return nil
	}
	visit(&pod.Spec, nil, func(c *corev1.Container, _ *field.Path) {
		text, ok := pod.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]
		if !ok || c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			return
		}
		profile := appArmorOf(text)
		invalid := profile == nil || len(ValidateAppArmor(profile, nil)) > 0
		if !invalid && sameAppArmor(profile, podAppArmor(&pod.Spec)) {
			return
		}
		left = append(left, c.Name)
		if invalid {
			return
		}
		if c.SecurityContext == nil {
			c.SecurityContext = &corev1.SecurityContext{}
		}
		c.SecurityContext.AppArmorProfile = profile
	})
	return left
}

// podAppArmor returns the profile of the pod as a whole, or nil.
func podAppArmor(spec *corev1.PodSpec) *corev1.AppArmorProfile {
	if spec.SecurityContext == nil {
		return nil
	}
	return spec.SecurityContext.AppArmorProfile
}

func sameAppArmor(a, b *corev1.AppArmorProfile) bool {
	if a == nil || b == nil || a.Type != b.Type || (a.LocalhostProfile == nil) != (b.LocalhostProfile == nil) {
		return false
	}
	return a.LocalhostProfile == nil || *a.LocalhostProfile == *b.LocalhostProfile
}

// validateAnnotationChange keeps annotations that mean something from being changed on a pod that exists.
func validateAnnotationChange(annotations, old map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	special := func(key string) string {
		switch {
		case strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix):
			return "AppArmor annotations"
		case key == corev1.MirrorPodAnnotationKey:
			return "mirror pod annotation"
		}
		return ""
	}
	for key, before := range old {
		if now, ok := annotations[key]; ok && now == before {
			continue
		}
		if what := special(key); what != "" {
			errs = append(errs, field.Forbidden(at.Key(key), "may not remove or update "+what))
		}
	}
	for key := range annotations {
		if _, ok := old[key]; ok {
			continue
		}
		if what := special(key); what != "" {
			errs = append(errs, field.Forbidden(at.Key(key), "may not add "+what))
		}
	}
	return errs
}
