// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageUser is the user that an image names: a number, or a name that only the image can resolve.
type ImageUser struct {
	UID  *int64
	Name string
}

// groups returns a pod's supplemental groups and how they merge with the image's.
func groups(sc *corev1.PodSecurityContext) ([]int64, runtimeapi.SupplementalGroupsPolicy, error) {
	var out []int64
	if sc.FSGroup != nil {
		out = append(out, *sc.FSGroup)
	}
	out = append(out, sc.SupplementalGroups...)
	policy := runtimeapi.SupplementalGroupsPolicy_Merge
	if sc.SupplementalGroupsPolicy != nil {
		value, ok := runtimeapi.SupplementalGroupsPolicy_value[string(*sc.SupplementalGroupsPolicy)]
		if !ok {
			return nil, 0, fmt.Errorf("unsupported supplementalGroupsPolicy: %s", *sc.SupplementalGroupsPolicy)
		}
		policy = runtimeapi.SupplementalGroupsPolicy(value)
	}
	return out, policy, nil
}

func selinux(o *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

// effective merges the pod's security context into the container's; the container's wins.
func effective(p *corev1.Pod, c *corev1.Container) corev1.SecurityContext {
	var out corev1.SecurityContext
	if c.SecurityContext != nil {
		out = *c.SecurityContext
	}
	sc := p.Spec.SecurityContext
	if sc == nil {
		return out
	}
	if out.SELinuxOptions == nil {
		out.SELinuxOptions = sc.SELinuxOptions
	}
	if out.RunAsUser == nil {
		out.RunAsUser = sc.RunAsUser
	}
	if out.RunAsGroup == nil {
		out.RunAsGroup = sc.RunAsGroup
	}
	if out.RunAsNonRoot == nil {
		out.RunAsNonRoot = sc.RunAsNonRoot
	}
	if out.SeccompProfile == nil {
		out.SeccompProfile = sc.SeccompProfile
	}
	if out.AppArmorProfile == nil {
		out.AppArmorProfile = sc.AppArmorProfile
	}
	return out
}

func (s *Container) security() (*runtimeapi.LinuxContainerSecurityContext, error) {
	sc := effective(s.Pod, s.Spec)
	if err := s.checkNonRoot(&sc); err != nil {
		return nil, err
	}
	out := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces(s.Pod, s.Users), SelinuxOptions: selinux(sc.SELinuxOptions), Capabilities: capabilities(sc.Capabilities),
		Privileged: sc.Privileged != nil && *sc.Privileged, ReadonlyRootfs: sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem,
		NoNewPrivs: sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation,
	}
	if sc.ProcMount == nil || *sc.ProcMount != corev1.UnmaskedProcMount {
		out.MaskedPaths, out.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	switch {
	case sc.RunAsUser != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	case s.ImageUser.UID != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *s.ImageUser.UID}
	default:
		out.RunAsUsername = s.ImageUser.Name
	}
	if sc.RunAsGroup != nil {
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	if podSC := s.Pod.Spec.SecurityContext; podSC != nil {
		var err error
		if out.SupplementalGroups, out.SupplementalGroupsPolicy, err = groups(podSC); err != nil {
			return nil, err
		}
	}
	out.SupplementalGroups = append(out.SupplementalGroups, s.ExtraGroups...)
	var err error
	if out.Seccomp, err = s.seccomp(sc.SeccompProfile); err != nil {
		return nil, err
	}
	if out.Apparmor, out.ApparmorProfile, err = s.appArmor(sc.AppArmorProfile); err != nil {
		return nil, err
	}
	if s.TargetID != "" && out.NamespaceOptions.Pid == runtimeapi.NamespaceMode_CONTAINER {
		out.NamespaceOptions.Pid, out.NamespaceOptions.TargetId = runtimeapi.NamespaceMode_TARGET, s.TargetID
	}
	return out, nil
}

// checkNonRoot refuses what would run as root although the specification forbids it.
func (s *Container) checkNonRoot(sc *corev1.SecurityContext) error {
	if sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot {
		return nil
	}
	where := fmt.Sprintf("(pod: \"%s_%s(%s)\", container: %s)", s.Pod.Name, s.Pod.Namespace, s.Pod.UID, s.Spec.Name)
	switch {
	case sc.RunAsUser != nil && *sc.RunAsUser == 0:
		return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
	case sc.RunAsUser != nil:
		return nil
	case s.ImageUser.UID != nil && *s.ImageUser.UID == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	case s.ImageUser.UID == nil && s.ImageUser.Name != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", s.ImageUser.Name, where)
	}
	return nil
}

func capabilities(c *corev1.Capabilities) *runtimeapi.Capability {
	if c == nil {
		return nil
	}
	out := &runtimeapi.Capability{}
	for _, name := range c.Add {
		out.AddCapabilities = append(out.AddCapabilities, string(name))
	}
	for _, name := range c.Drop {
		out.DropCapabilities = append(out.DropCapabilities, string(name))
	}
	return out
}

func maskedPaths() []string {
	out := []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	// Reveals neighbours' load through a processor's throttling counters; present on some machines only.
	if throttles, err := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle"); err == nil {
		out = append(out, throttles...)
	}
	return out
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func (s *Container) seccomp(p *corev1.SeccompProfile) (*runtimeapi.SecurityProfile, error) {
	unconfined := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	byDefault := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	if p == nil {
		if s.SeccompDefault {
			return byDefault, nil
		}
		return unconfined, nil
	}
	switch p.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return byDefault, nil
	case corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil || *p.LocalhostProfile == "" {
			return nil, errors.New("localhostProfile must be set if seccompProfile type is Localhost")
		}
		return &runtimeapi.SecurityProfile{
			ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: filepath.Join(s.SeccompRoot, filepath.FromSlash(*p.LocalhostProfile)),
		}, nil
	case corev1.SeccompProfileTypeUnconfined:
	}
	return unconfined, nil
}

// appArmor returns the profile in the protocol's new and in its old form.
func (s *Container) appArmor(p *corev1.AppArmorProfile) (*runtimeapi.SecurityProfile, string, error) {
	if p == nil {
		switch value := s.Pod.Annotations[annotationAppArmorPrefix+s.Spec.Name]; {
		case value == "runtime/default":
			p = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
		case value == "unconfined":
			p = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
		case strings.HasPrefix(value, "localhost/"):
			name := strings.TrimPrefix(value, "localhost/")
			p = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
		default:
			return nil, "", nil
		}
	}
	switch p.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, "runtime/default", nil
	case corev1.AppArmorProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, "unconfined", nil
	case corev1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile == nil {
			return nil, "", errors.New("missing localhost apparmor profile name")
		}
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: *p.LocalhostProfile}, "localhost/" + *p.LocalhostProfile, nil
	}
	return nil, "", fmt.Errorf("unknown apparmor profile type %q", p.Type)
}
