// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	pathpkg "path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

// maxFileMode is the last of the permission bits.
const maxFileMode = 0o777

// Source is one kind of volume that a pod's or a persistent volume can be.
type Source struct {
	// Name of the field.
	Name string
	// Path under which mistakes inside it are reported; empty for Name.
	Path string
	// Set tells whether the volume is of this kind.
	Set bool
	// Beside admits the source as a second one.
	Beside bool
	// Validate judges the source; only called when it is set.
	Validate func(path *field.Path) field.ErrorList
}

// ValidateSources requires that a volume is of exactly one kind, and judges the first one set.
func ValidateSources(sources []Source, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := false
	for _, s := range sources {
		switch {
		case !s.Set:
		case found && !s.Beside:
			errs = append(errs, field.Forbidden(at.Child(s.Name), "may not specify more than 1 volume type"))
		default:
			found = true
			name := s.Path
			if name == "" {
				name = s.Name
			}
			errs = append(errs, s.Validate(at.Child(name))...)
		}
	}
	if !found {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

// Require refuses empty fields; it takes names and values in turn.
func Require(at *field.Path, namesAndValues ...string) field.ErrorList {
	var errs field.ErrorList
	for pair := range slices.Chunk(namesAndValues, 2) {
		if pair[1] == "" {
			errs = append(errs, field.Required(at.Child(pair[0]), ""))
		}
	}
	return errs
}

// validateVolumes returns the sources of the volumes that are right, by name.
func validateVolumes(volumes []corev1.Volume, meta *metav1.ObjectMeta, opts Options, at *field.Path) (map[string]*corev1.VolumeSource, field.ErrorList) {
	var errs field.ErrorList
	made := map[string]bool{} // claims that will be made for this pod
	if meta != nil && meta.Name != "" {
		for _, v := range volumes {
			if v.Ephemeral != nil {
				made[meta.Name+"-"+v.Name] = true
			}
		}
	}
	sources := map[string]*corev1.VolumeSource{}
	for i := range volumes {
		v, path := &volumes[i], at.Index(i)
		bad := validateVolume(v, meta, opts, path)
		if v.Name == "" {
			bad = append(bad, field.Required(path.Child("name"), ""))
		} else {
			bad = append(bad, check.Label(v.Name, path.Child("name"))...)
		}
		if sources[v.Name] != nil {
			bad = append(bad, field.Duplicate(path.Child("name"), v.Name))
		}
		if len(bad) == 0 {
			sources[v.Name] = &v.VolumeSource
		}
		errs = append(errs, bad...)
		if claim := v.PersistentVolumeClaim; claim != nil && made[claim.ClaimName] {
			errs = append(errs, field.Invalid(path.Child("persistentVolumeClaim", "claimName"), claim.ClaimName,
				"must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return sources, errs
}

func validateVolume(v *corev1.Volume, meta *metav1.ObjectMeta, opts Options, at *field.Path) field.ErrorList {
	errs := ValidateSources(sourcesOf(v, meta, opts, at), at)
	if v.ISCSI != nil && v.ISCSI.InitiatorName != nil && len(v.Name+":"+v.ISCSI.TargetPortal) > MaxInitiator {
		errs = append(errs, field.Invalid(at.Child("name"), v.Name, InitiatorTooLong))
	}
	return errs
}

func validateEphemeral(v *corev1.Volume, meta *metav1.ObjectMeta, parent, at *field.Path) field.ErrorList {
	template := v.Ephemeral.VolumeClaimTemplate
	if template == nil {
		return field.ErrorList{field.Required(at.Child("volumeClaimTemplate"), "")}
	}
	path := at.Child("volumeClaimTemplate")
	errs := check.TemplateMetadata(template.ObjectMeta, path.Child("metadata"))
	errs = append(errs, ValidateClaimSpec(&template.Spec, nil, path.Child("spec"))...)
	if meta != nil && meta.Name != "" && v.Name != "" {
		claim := meta.Name + "-" + v.Name
		for _, msg := range objectmeta.Subdomain(claim, false) {
			errs = append(errs, field.Invalid(parent.Child("name"), v.Name, fmt.Sprintf("PVC name %q: %v", claim, msg)))
		}
	}
	return errs
}

func validateMode(mode *int32, at *field.Path) field.ErrorList {
	if mode == nil || *mode >= 0 && *mode <= maxFileMode {
		return nil
	}
	return field.ErrorList{field.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
}

// validateKeys judges which keys of an object become which files.
func validateKeys(items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		path, item := at.Index(i), &items[i]
		errs = append(errs, Require(path, "key", item.Key, "path", item.Path)...)
		errs = append(errs, validateLocalPath(item.Path, path.Child("path"))...)
		errs = append(errs, validateMode(item.Mode, path.Child("mode"))...)
	}
	return errs
}

func validateDownwardFile(file *corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	errs := Require(at, "path", file.Path)
	errs = append(errs, validateLocalPath(file.Path, at.Child("path"))...)
	switch {
	case file.FieldRef != nil:
		errs = append(errs, validateFieldRef(file.FieldRef, volumeFields, at.Child("fieldRef"))...)
		if file.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case file.ResourceFieldRef != nil:
		errs = append(errs, validateResourceRef(file.ResourceFieldRef, refInVolume, at.Child("resourceFieldRef"))...)
	default:
		errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, validateMode(file.Mode, at.Child("mode"))...)
}

func validateProjected(v *corev1.ProjectedVolumeSource, opts Options, at *field.Path) field.ErrorList {
	errs := validateMode(v.DefaultMode, at.Child("defaultMode"))
	taken := map[string]bool{}
	claim := func(path, value string) {
		if path == "" {
			return
		}
		if taken[path] {
			errs = append(errs, field.Invalid(at, value, "conflicting duplicate paths"))
		}
		taken[path] = true
	}
	for i := range v.Sources {
		s, path := &v.Sources[i], at.Child("sources").Index(i)
		count := 0
		if s.Secret != nil {
			count++
			errs = append(errs, validateProjectedKeys(s.Secret.Name, s.Secret.Items, path.Child("secret"))...)
			for _, item := range s.Secret.Items {
				claim(item.Path, s.Secret.Name)
			}
		}
		if s.ConfigMap != nil {
			count++
			errs = append(errs, validateProjectedKeys(s.ConfigMap.Name, s.ConfigMap.Items, path.Child("configMap"))...)
			for _, item := range s.ConfigMap.Items {
				claim(item.Path, s.ConfigMap.Name)
			}
		}
		if s.DownwardAPI != nil {
			count++
			for j := range s.DownwardAPI.Items {
				item := &s.DownwardAPI.Items[j]
				errs = append(errs, validateDownwardFile(item, path.Child("downwardAPI"))...)
				claim(item.Path, item.Path)
			}
		}
		if s.ServiceAccountToken != nil {
			count++
			errs = append(errs, validateToken(s.ServiceAccountToken, opts, path.Child("serviceAccountToken"), at.Child("path"))...)
		}
		if count > 1 {
			errs = append(errs, field.Forbidden(path, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func validateProjectedKeys(name string, items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	return append(Require(at, "name", name), validateKeys(items, at.Child("items"))...)
}

// validateToken reports a wrong path at the volume, not at the source.
func validateToken(token *corev1.ServiceAccountTokenProjection, opts Options, at, pathAt *field.Path) field.ErrorList {
	const shortest, longest = 10 * 60, 1 << 32 // seconds
	var errs field.ErrorList
	if seconds := token.ExpirationSeconds; seconds != nil {
		if *seconds < shortest {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration less than 10 minutes"))
		}
		if *seconds > longest {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	if token.Path == "" {
		return append(errs, field.Required(pathAt, ""))
	}
	if !opts.NonLocalTokenPath {
		errs = append(errs, validateLocalPath(token.Path, pathAt)...)
	}
	return errs
}

// ValidateNoBacksteps refuses paths with ".." in them.
func ValidateNoBacksteps(target string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(target, "/"), "..") {
		return field.ErrorList{field.Invalid(at, target, "must not contain '..'")}
	}
	return nil
}

// validateDescending requires a path that stays below where it starts.
func validateDescending(target string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if pathpkg.IsAbs(target) {
		errs = append(errs, field.Invalid(at, target, "must be a relative path"))
	}
	return append(errs, ValidateNoBacksteps(target, at)...)
}

// validateLocalPath also keeps free the names that begin with two dots, which volumes use themselves.
func validateLocalPath(target string, at *field.Path) field.ErrorList {
	errs := validateDescending(target, at)
	if strings.HasPrefix(target, "..") && !strings.HasPrefix(target, "../") {
		errs = append(errs, field.Invalid(at, target, "must not start with '..'"))
	}
	return errs
}
