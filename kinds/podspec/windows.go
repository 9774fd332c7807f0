// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
)

// Limits of Windows' own names, in bytes.
const (
	maxCredentialSpec = 64 * 1024
	maxDomain         = 256
	maxUser           = 104
)

var (
	controlChars = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSName  = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dnsDomain    = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	userChars    = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
	dotsOrSpaces = regexp.MustCompile(`^[\. ]+$`)
)

func validateWindowsOptions(o *corev1.WindowsSecurityContextOptions, at *field.Path) field.ErrorList {
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	if o.GMSACredentialSpecName != nil {
		errs = append(errs, check.Subdomain(*o.GMSACredentialSpecName, at.Child("gmsaCredentialSpecName"))...)
	}
	if spec := o.GMSACredentialSpec; spec != nil {
		path := at.Child("gmsaCredentialSpec")
		if *spec == "" {
			errs = append(errs, field.Invalid(path, spec, "gmsaCredentialSpec cannot be an empty string"))
		} else if len(*spec) > maxCredentialSpec {
			errs = append(errs, field.Invalid(path, spec, "gmsaCredentialSpec size must be under 64 KiB"))
		}
	}
	if o.RunAsUserName != nil {
		for _, msg := range windowsUser(*o.RunAsUserName) {
			errs = append(errs, field.Invalid(at.Child("runAsUserName"), o.RunAsUserName, msg))
		}
	}
	return errs
}

// windowsUser judges a name of the form user or domain\user.
func windowsUser(name string) []string {
	switch {
	case name == "":
		return []string{"runAsUserName cannot be an empty string"}
	case controlChars.MatchString(name):
		return []string{"runAsUserName cannot contain control characters"}
	case strings.Count(name, "\\") > 1:
		return []string{"runAsUserName cannot contain more than one backslash"}
	}
	domain, user, hasDomain := strings.Cut(name, "\\")
	if !hasDomain {
		domain, user = "", name
	}
	var msgs []string
	if len(domain) >= maxDomain {
		msgs = append(msgs, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", maxDomain))
	}
	if hasDomain && !netBIOSName.MatchString(domain) && !dnsDomain.MatchString(domain) {
		msgs = append(msgs, "runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	}
	if user == "" {
		msgs = append(msgs, "runAsUserName's User cannot be empty")
	} else if len(user) > maxUser {
		msgs = append(msgs, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", maxUser))
	}
	if dotsOrSpaces.MatchString(user) {
		msgs = append(msgs, "runAsUserName's User cannot contain only periods or spaces")
	}
	if userChars.MatchString(user) {
		msgs = append(msgs, "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
	}
	return msgs
}

// validateHostProcess judges pods of which some containers run as processes of a Windows node: all must, and in its network.
func validateHostProcess(spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	var pod *bool
	if spec.SecurityContext != nil && spec.SecurityContext.WindowsOptions != nil {
		pod = spec.SecurityContext.WindowsOptions.HostProcess
	}
	total, onHost := 0, 0
	visit(spec, at, func(c *corev1.Container, path *field.Path) {
		total++
		value := pod
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil && c.SecurityContext.WindowsOptions.HostProcess != nil {
			value = c.SecurityContext.WindowsOptions.HostProcess
			if pod != nil && *pod != *value {
				errs = append(errs, field.Invalid(path.Child("securityContext", "windowsOptions", "hostProcess"), *value,
					fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *pod)))
			}
		}
		if value != nil && *value {
			onHost++
		}
	})
	if onHost == 0 {
		return errs
	}
	if onHost != total {
		errs = append(errs, field.Invalid(at, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if !spec.HostNetwork {
		errs = append(errs, field.Invalid(at.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}

// validateOS judges the fields that only the other operating system knows.
func validateOS(spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	if spec.OS == nil {
		return nil
	}
	switch spec.OS.Name {
	case "":
		return field.ErrorList{field.Required(at.Child("os", "name"), "")}
	case corev1.Linux:
		return forbidOnLinux(spec, at)
	case corev1.Windows:
		return forbidOnWindows(spec, at)
	}
	return oneOf(spec.OS.Name, at.Child("os"), corev1.Linux, corev1.Windows)
}

func forbidOnLinux(spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	const refused = "windows options cannot be set for a linux pod"
	var errs field.ErrorList
	if spec.SecurityContext != nil && spec.SecurityContext.WindowsOptions != nil {
		errs = append(errs, field.Forbidden(at.Child("securityContext", "windowsOptions"), refused))
	}
	visit(spec, at, func(c *corev1.Container, path *field.Path) {
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(path.Child("securityContext", "windowsOptions"), refused))
		}
	})
	return errs
}

// setField names a field and tells whether it is set.
type setField struct {
	path *field.Path
	set  bool
}

func forbidOnWindows(spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	var fields []setField
	if sc := spec.SecurityContext; sc != nil {
		in := at.Child("securityContext")
		fields = append(fields, []setField{
			{in.Child("appArmorProfile"), sc.AppArmorProfile != nil},
			{in.Child("seLinuxOptions"), sc.SELinuxOptions != nil},
			{at.Child("hostUsers"), spec.HostUsers != nil},
			{at.Child("hostPID"), spec.HostPID},
			{at.Child("hostIPC"), spec.HostIPC},
			{in.Child("seccompProfile"), sc.SeccompProfile != nil},
			{in.Child("fsGroup"), sc.FSGroup != nil},
			{in.Child("fsGroupChangePolicy"), sc.FSGroupChangePolicy != nil},
			{in.Child("sysctls"), len(sc.Sysctls) > 0},
			{at.Child("shareProcessNamespace"), spec.ShareProcessNamespace != nil},
			{in.Child("runAsUser"), sc.RunAsUser != nil},
			{in.Child("runAsGroup"), sc.RunAsGroup != nil},
			{in.Child("supplementalGroups"), sc.SupplementalGroups != nil},
			{in.Child("supplementalGroupsPolicy"), sc.SupplementalGroupsPolicy != nil},
			{in.Child("seLinuxChangePolicy"), sc.SELinuxChangePolicy != nil},
		}...)
	}
	visit(spec, at, func(c *corev1.Container, path *field.Path) {
		sc, in := c.SecurityContext, path.Child("securityContext")
		if sc == nil {
			return
		}
		fields = append(fields, []setField{
			{in.Child("appArmorProfile"), sc.AppArmorProfile != nil},
			{in.Child("seLinuxOptions"), sc.SELinuxOptions != nil},
			{in.Child("seccompProfile"), sc.SeccompProfile != nil},
			{in.Child("capabilities"), sc.Capabilities != nil},
			{in.Child("readOnlyRootFilesystem"), sc.ReadOnlyRootFilesystem != nil},
			{in.Child("privileged"), sc.Privileged != nil},
			{in.Child("allowPrivilegeEscalation"), sc.AllowPrivilegeEscalation != nil},
			{in.Child("procMount"), sc.ProcMount != nil},
			{in.Child("runAsUser"), sc.RunAsUser != nil},
			{in.Child("runAsGroup"), sc.RunAsGroup != nil},
		}...)
	})
	var errs field.ErrorList
	for _, f := range fields {
		if f.set {
			errs = append(errs, field.Forbidden(f.path, "cannot be set for a windows pod"))
		}
	}
	return errs
}
