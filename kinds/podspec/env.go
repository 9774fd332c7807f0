// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

// Fields of the pod that its environment and its volumes can show.
var (
	envFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	// knownFields are those that could be shown as far as the API version is concerned.
	knownFields = append([]string{
		"metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host",
	}, envFields...)
)

func validateEnv(vars []corev1.EnvVar, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range vars {
		v, path := &vars[i], at.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
		} else {
			errs = append(errs, check.Messages(path.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))...)
		}
		errs = append(errs, validateEnvSource(v, path.Child("valueFrom"))...)
	}
	return errs
}

func validateEnvSource(v *corev1.EnvVar, at *field.Path) field.ErrorList {
	source := v.ValueFrom
	if source == nil {
		return nil
	}
	var errs field.ErrorList
	count := 0
	if source.FieldRef != nil {
		count++
		errs = append(errs, validateFieldRef(source.FieldRef, envFields, at.Child("fieldRef"))...)
	}
	if source.ResourceFieldRef != nil {
		count++
		errs = append(errs, validateResourceRef(source.ResourceFieldRef, refInEnv, at.Child("resourceFieldRef"))...)
	}
	if source.ConfigMapKeyRef != nil {
		count++
		errs = append(errs, validateKeyRef(source.ConfigMapKeyRef.Name, source.ConfigMapKeyRef.Key, at.Child("configMapKeyRef"))...)
	}
	if source.SecretKeyRef != nil {
		count++
		errs = append(errs, validateKeyRef(source.SecretKeyRef.Name, source.SecretKeyRef.Key, at.Child("secretKeyRef"))...)
	}
	if source.FileKeyRef != nil {
		count++
		errs = append(errs, validateFileRef(source.FileKeyRef, at.Child("fileKeyRef"))...)
	}
	switch {
	case count == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case count > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateEnvFrom(sources []corev1.EnvFromSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, source := range sources {
		path := at.Index(i)
		if source.Prefix != "" {
			errs = append(errs, check.Messages(path.Child("prefix"), source.Prefix, validation.IsRelaxedEnvVarName(source.Prefix))...)
		}
		count := 0
		for _, ref := range []struct {
			field string
			set   bool
			name  string
		}{
			{"configMapRef", source.ConfigMapRef != nil, nameOf(source.ConfigMapRef)},
			{"secretRef", source.SecretRef != nil, secretNameOf(source.SecretRef)},
		} {
			if !ref.set {
				continue
			}
			count++
			name := path.Child(ref.field, "name")
			if ref.name == "" {
				errs = append(errs, field.Required(name, ""))
			} else {
				errs = append(errs, check.Messages(name, ref.name, objectmeta.Subdomain(ref.name, true))...)
			}
		}
		if count == 0 {
			errs = append(errs, field.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
		} else if count > 1 {
			errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

func nameOf(ref *corev1.ConfigMapEnvSource) string {
	if ref == nil {
		return ""
	}
	return ref.Name
}

func secretNameOf(ref *corev1.SecretEnvSource) string {
	if ref == nil {
		return ""
	}
	return ref.Name
}

func validateKeyRef(name, key string, at *field.Path) field.ErrorList {
	errs := check.Messages(at.Child("name"), name, objectmeta.Subdomain(name, false))
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	return append(errs, check.Messages(at.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func validateFileRef(ref *corev1.FileKeySelector, at *field.Path) field.ErrorList {
	errs := Require(at, "key", ref.Key, "volumeName", ref.VolumeName, "path", ref.Path)
	if ref.Key != "" {
		errs = append(errs, check.Messages(at.Child("key"), ref.Key, validation.IsRelaxedEnvVarName(ref.Key))...)
	}
	if ref.VolumeName != "" {
		errs = append(errs, check.Label(ref.VolumeName, at.Child("volumeName"))...)
	}
	return append(errs, ValidateNoBacksteps(ref.Path, at.Child("path"))...)
}

// validateFileVolumes requires that files with environment variables lie in volumes that the pod itself fills.
func validateFileVolumes(spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	visit(spec, at, func(c *corev1.Container, path *field.Path) {
		for i, v := range c.Env {
			if v.ValueFrom == nil || v.ValueFrom.FileKeyRef == nil {
				continue
			}
			name := v.ValueFrom.FileKeyRef.VolumeName
			at := path.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			found := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
			if found < 0 {
				errs = append(errs, field.NotFound(at, name))
			} else if spec.Volumes[found].EmptyDir == nil {
				errs = append(errs, field.Invalid(at, name, "referenced volume must be of type emptyDir"))
			}
		}
	})
	return errs
}

func validateFieldRef(ref *corev1.ObjectFieldSelector, allowed []string, at *field.Path) field.ErrorList {
	if ref.APIVersion == "" {
		return field.ErrorList{field.Required(at.Child("apiVersion"), "")}
	}
	if ref.FieldPath == "" {
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	unknown := func(detail string) field.ErrorList {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), ref.FieldPath, "error converting fieldPath: "+detail)}
	}
	if ref.APIVersion != "v1" {
		return unknown("unsupported pod version: " + ref.APIVersion)
	}
	if path, key, ok := SplitSubscript(ref.FieldPath); ok {
		switch path {
		case "metadata.annotations":
			return check.QualifiedName(strings.ToLower(key), at)
		case "metadata.labels":
			return check.QualifiedName(key, at)
		}
		return unknown("field label does not support subscript: " + ref.FieldPath)
	}
	path := ref.FieldPath
	if !slices.Contains(knownFields, path) {
		return unknown("field label not supported: " + path)
	}
	if path == "spec.host" { // what spec.nodeName was called at first
		path = "spec.nodeName"
	}
	if !slices.Contains(allowed, path) {
		return field.ErrorList{field.NotSupported(at.Child("fieldPath"), path, allowed)}
	}
	return nil
}

// SplitSubscript splits a field path such as metadata.labels['key'] into path and key.
func SplitSubscript(fieldPath string) (path, key string, ok bool) {
	inner, ok := strings.CutSuffix(fieldPath, "']")
	if !ok {
		return fieldPath, "", false
	}
	path, key, ok = strings.Cut(inner, "['")
	if !ok || path == "" {
		return fieldPath, "", false
	}
	return path, key, true
}

// refPlace says where a reference to a container's resources stands.
type refPlace int

const (
	refInEnv    refPlace = iota // of the container itself, unless another is named
	refInVolume                 // of no container unless one is named
)

var resourceFields = []string{
	"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
}

func validateResourceRef(ref *corev1.ResourceFieldSelector, place refPlace, at *field.Path) field.ErrorList {
	hugePages := strings.HasPrefix(ref.Resource, "requests.hugepages-") || strings.HasPrefix(ref.Resource, "limits.hugepages-")
	var errs field.ErrorList
	switch {
	case place == refInVolume && ref.ContainerName == "":
		errs = append(errs, field.Required(at.Child("containerName"), ""))
	case ref.Resource == "":
		errs = append(errs, field.Required(at.Child("resource"), ""))
	case !slices.Contains(resourceFields, ref.Resource) && !hugePages:
		errs = append(errs, field.NotSupported(at.Child("resource"), ref.Resource, resourceFields))
	}
	if ref.Divisor.IsZero() {
		return errs
	}
	bytes := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
	allowed, words, noun := bytes, strings.Join(bytes, ", "), ""
	switch ref.Resource {
	case "limits.cpu", "requests.cpu":
		allowed, words, noun = []string{"1m", "1"}, "1m and 1", "cpu"
	case "limits.memory", "requests.memory":
		noun = "memory"
	case "limits.ephemeral-storage", "requests.ephemeral-storage":
		noun = "local ephemeral storage"
	default:
		if !hugePages {
			return errs
		}
		noun = "hugepages"
	}
	if !slices.Contains(allowed, ref.Divisor.String()) {
		errs = append(errs, field.Invalid(at.Child("divisor"), ref.Resource, fmt.Sprintf("only divisor's values %s are supported with the %s resource", words, noun)))
	}
	return errs
}
