// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"

	"kogge.dev/kogge/kinds/check"
)

// Sysctl names, whose parts are joined by dots or slashes.
const maxSysctl = 253

var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

// validatePodSecurity judges what holds for the pod as a whole.
func validatePodSecurity(spec *corev1.PodSpec, opts Options, at *field.Path) field.ErrorList {
	sc := spec.SecurityContext
	if sc == nil {
		return nil
	}
	errs := validateIDs(sc.RunAsUser, sc.RunAsGroup, at)
	if sc.FSGroup != nil {
		errs = append(errs, check.Messages(at.Child("fsGroup"), *sc.FSGroup, validation.IsValidGroupID(*sc.FSGroup))...)
	}
	for i, group := range sc.SupplementalGroups {
		errs = append(errs, check.Messages(at.Child("supplementalGroups").Index(i), group, validation.IsValidGroupID(group))...)
	}
	if share := spec.ShareProcessNamespace; share != nil && *share && spec.HostPID {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), *share, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, validateSysctls(spec, opts, at.Child("sysctls"))...)
	if sc.FSGroupChangePolicy != nil {
		errs = append(errs, oneOf(*sc.FSGroupChangePolicy, at.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	errs = append(errs, validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateWindowsOptions(sc.WindowsOptions, at.Child("windowsOptions"))...)
	errs = append(errs, ValidateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
	if sc.SupplementalGroupsPolicy != nil {
		errs = append(errs, oneOf(*sc.SupplementalGroupsPolicy, at.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	if sc.SELinuxChangePolicy != nil {
		policies := []corev1.PodSELinuxChangePolicy{corev1.SELinuxChangePolicyRecursive}
		if opts.SELinuxMount {
			policies = []corev1.PodSELinuxChangePolicy{corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive}
		}
		errs = append(errs, oneOf(*sc.SELinuxChangePolicy, at.Child("seLinuxChangePolicy"), policies...)...)
	}
	return errs
}

func validateIDs(user, group *int64, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, check.Messages(at.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, check.Messages(at.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

func validateSysctls(spec *corev1.PodSpec, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, s := range spec.SecurityContext.Sysctls {
		path := at.Index(i).Child("name")
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(path, ""))
		case len(s.Name) > maxSysctl || !sysctlName.MatchString(s.Name):
			errs = append(errs, field.Invalid(path, s.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctl, sysctlName)))
		case names[s.Name]:
			errs = append(errs, field.Duplicate(path, s.Name))
		}
		names[s.Name] = true
		if !opts.HostSysctls {
			errs = append(errs, validateHostSysctl(spec, s.Name, path)...)
		}
	}
	return errs
}

// validateHostSysctl refuses settings of a namespace that the pod shares with the node.
func validateHostSysctl(spec *corev1.PodSpec, name string, at *field.Path) field.ErrorList {
	switch namespace, _, _ := sysctl.GetNamespace(name); {
	case spec.HostNetwork && namespace == sysctl.NetNamespace:
		return field.ErrorList{field.Invalid(at, name, "may not be specified when 'hostNetwork' is true")}
	case spec.HostIPC && namespace == sysctl.IPCNamespace:
		return field.ErrorList{field.Invalid(at, name, "may not be specified when 'hostIPC' is true")}
	}
	return nil
}

// validateSecurityContext judges one container's.
func validateSecurityContext(sc *corev1.SecurityContext, hostUsers bool, at *field.Path) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := validateIDs(sc.RunAsUser, sc.RunAsGroup, at)
	if sc.ProcMount != nil {
		errs = append(errs, oneOf(*sc.ProcMount, at.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if hostUsers && *sc.ProcMount == corev1.UnmaskedProcMount {
			errs = append(errs, field.Invalid(at.Child("procMount"), sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	errs = append(errs, validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if sc.Privileged != nil && *sc.Privileged {
			errs = append(errs, field.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil {
			for _, capability := range sc.Capabilities.Add {
				if capability == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	errs = append(errs, validateWindowsOptions(sc.WindowsOptions, at.Child("windowsOptions"))...)
	return append(errs, ValidateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
}

func validateSeccomp(profile *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if profile == nil {
		return nil
	}
	var errs field.ErrorList
	if profile.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "type is required when seccompProfile is set"))
	} else {
		errs = append(errs, oneOf(profile.Type, at.Child("type"), corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)...)
	}
	file := at.Child("localhostProfile")
	switch {
	case profile.Type != corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile != nil {
			errs = append(errs, field.Invalid(file, profile, "can only be set when seccomp type is Localhost"))
		}
	case profile.LocalhostProfile == nil:
		errs = append(errs, field.Required(file, "must be set when seccomp type is Localhost"))
	default:
		errs = append(errs, validateDescending(*profile.LocalhostProfile, file)...)
	}
	return errs
}

// ValidateAppArmor judges an AppArmor profile; nil is right.
func ValidateAppArmor(profile *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	const longest = 4095
	if profile == nil {
		return nil
	}
	name := at.Child("localhostProfile")
	switch profile.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		const required = "must be set when AppArmor type is Localhost"
		if profile.LocalhostProfile == nil {
			return field.ErrorList{field.Required(name, required)}
		}
		var errs field.ErrorList
		value := *profile.LocalhostProfile
		if strings.TrimSpace(value) != value {
			errs = append(errs, field.Invalid(name, value, "must not be padded with whitespace"))
		} else if value == "" {
			errs = append(errs, field.Required(name, required))
		}
		if len(value) > longest {
			errs = append(errs, field.TooLong(name, "", longest))
		}
		return errs
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if profile.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(name, profile.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
		}
		return nil
	case "":
		return field.ErrorList{field.Required(at.Child("type"), "type is required when appArmorProfile is set")}
	}
	return oneOf(profile.Type, at.Child("type"), corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
}

// validateHostUsers judges what a user namespace of the pod's own rules out.
func validateHostUsers(spec *corev1.PodSpec, opts Options, at *field.Path) field.ErrorList {
	const own = "when `hostUsers` is false"
	if sharesUsers(spec) {
		return nil
	}
	var errs field.ErrorList
	if spec.HostNetwork && !opts.UserNamespaceHostNetwork {
		errs = append(errs, field.Forbidden(at.Child("hostNetwork"), own))
	}
	if spec.HostPID {
		errs = append(errs, field.Forbidden(at.Child("HostPID"), own))
	}
	if spec.HostIPC {
		errs = append(errs, field.Forbidden(at.Child("HostIPC"), own))
	}
	if !opts.UserNamespaceDevices {
		visit(spec, at, func(c *corev1.Container, path *field.Path) {
			if len(c.VolumeDevices) > 0 {
				errs = append(errs, field.Forbidden(path.Child("volumeDevices"), own))
			}
		})
	}
	return errs
}

// sharesUsers reports whether a pod has no user namespace of its own.
func sharesUsers(spec *corev1.PodSpec) bool { return spec.HostUsers == nil || *spec.HostUsers }
