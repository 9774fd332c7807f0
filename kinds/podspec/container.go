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
)

// surroundings is what the rules of one container need to know of the pod around it.
type surroundings struct {
	spec *corev1.PodSpec
	opts Options
	// volumes are the pod's valid volumes by name.
	volumes map[string]*corev1.VolumeSource
	// claims are the names of the pod's resource claims.
	claims []string
	// hostUsers is set when the pod has no user namespace of its own.
	hostUsers bool
}

func (s *surroundings) validateContainers(at *field.Path) field.ErrorList {
	containers := s.spec.Containers
	if len(containers) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range containers {
		c, path := &containers[i], at.Index(i)
		errs = append(errs, s.validateContainer(c, path)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
		}
		names[c.Name] = true
		errs = append(errs, s.validateRunning(c, path)...)
		errs = append(errs, validateRestartRules(c, path)...)
	}
	return append(errs, validateHostPorts(containers, at)...)
}

func (s *surroundings) validateInitContainers(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range s.spec.Containers {
		names[s.spec.Containers[i].Name] = true
	}
	for i := range s.spec.InitContainers {
		c, path := &s.spec.InitContainers[i], at.Index(i)
		errs = append(errs, s.validateContainer(c, path)...)
		errs = append(errs, validateInitRestart(c, path)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
		} else if c.Name != "" {
			names[c.Name] = true
		}
		// They run one by one, so that only a container's own ports can collide.
		errs = append(errs, validateHostPorts([]corev1.Container{*c}, at)...)
		if isSidecar(c) {
			errs = append(errs, s.validateRunning(c, path)...)
			continue
		}
		const refused = "may not be set for init containers without restartPolicy=Always"
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"lifecycle", c.Lifecycle != nil},
			{"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(path.Child(f.name), refused))
			}
		}
		if s.opts.InitRestartPolicy {
			continue
		}
		for j, policy := range c.ResizePolicy {
			if policy.RestartPolicy == corev1.RestartContainer {
				errs = append(errs, field.Invalid(path.Child("resizePolicy").Index(j).Child("restartPolicy"), policy.RestartPolicy,
					"must not be set to 'RestartContainer' for non-sidecar initContainers"))
			}
		}
	}
	return errs
}

func (s *surroundings) validateEphemeralContainers(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	others, all := map[string]bool{}, map[string]bool{}
	for _, list := range [][]corev1.Container{s.spec.Containers, s.spec.InitContainers} {
		for i := range list {
			others[list[i].Name], all[list[i].Name] = true, true
		}
	}
	for i := range s.spec.EphemeralContainers {
		ec, path := &s.spec.EphemeralContainers[i], at.Index(i)
		c := (*corev1.Container)(&ec.EphemeralContainerCommon)
		errs = append(errs, s.validateContainer(c, path)...)
		errs = append(errs, validateImageSpace(c, path)...)
		if all[ec.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), ec.Name))
		}
		all[ec.Name] = true
		if ec.TargetContainerName != "" && !others[ec.TargetContainerName] {
			errs = append(errs, field.NotFound(path.Child("targetContainerName"), ec.TargetContainerName))
		}
		// A pod must not come to rely on them, so whatever makes a container part of its work is left out.
		const refused = "cannot be set for an Ephemeral Container"
		errs = append(errs, check.OnlyFields(ec.EphemeralContainerCommon, refused, path,
			"Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices", "TerminationMessagePath",
			"TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY")...)
		for j, mount := range ec.VolumeMounts {
			at := path.Child("volumeMounts").Index(j)
			if mount.SubPath != "" {
				errs = append(errs, field.Forbidden(at.Child("subPath"), refused))
			}
			if mount.SubPathExpr != "" {
				errs = append(errs, field.Forbidden(at.Child("subPathExpr"), refused))
			}
		}
	}
	return errs
}

// validateContainer judges what holds for containers of all sorts.
func (s *surroundings) validateContainer(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, check.Label(c.Name, at.Child("name"))...)
	}
	errs = append(errs, Require(at, "image", c.Image)...)
	errs = append(errs, check.OneOf(c.TerminationMessagePolicy, at.Child("terminationMessagePolicy"),
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, validateContainerPorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, at.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, at.Child("envFrom"))...)
	errs = append(errs, s.validateMounts(c, at.Child("volumeMounts"))...)
	errs = append(errs, s.validateDevices(c, at.Child("volumeDevices"))...)
	errs = append(errs, validatePullPolicy(c.ImagePullPolicy, at.Child("imagePullPolicy"))...)
	errs = append(errs, validateResources(&c.Resources, ValidateContainerResourceName, s.claims, s.opts, at.Child("resources"))...)
	errs = append(errs, validateResizePolicy(c.ResizePolicy, s.spec.RestartPolicy, at.Child("resizePolicy"))...)
	return append(errs, validateSecurityContext(c.SecurityContext, s.hostUsers, at.Child("securityContext"))...)
}

// validateRunning judges what containers have that run as long as the pod.
func (s *surroundings) validateRunning(c *corev1.Container, at *field.Path) field.ErrorList {
	grace := s.spec.TerminationGracePeriodSeconds
	var errs field.ErrorList
	if c.Lifecycle != nil {
		errs = append(errs, validateHook(c.Lifecycle.PostStart, grace, at.Child("lifecycle", "postStart"))...)
		errs = append(errs, validateHook(c.Lifecycle.PreStop, grace, at.Child("lifecycle", "preStop"))...)
	}
	errs = append(errs, validateProbe(c.LivenessProbe, grace, liveness, at.Child("livenessProbe"))...)
	errs = append(errs, validateProbe(c.ReadinessProbe, grace, readiness, at.Child("readinessProbe"))...)
	return append(errs, validateProbe(c.StartupProbe, grace, liveness, at.Child("startupProbe"))...)
}

func validatePullPolicy(policy corev1.PullPolicy, at *field.Path) field.ErrorList {
	return check.OneOf(policy, at, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
}

// validateImageSpace refuses what templates may have, for whoever makes pods of them to replace.
func validateImageSpace(c *corev1.Container, at *field.Path) field.ErrorList {
	if strings.TrimSpace(c.Image) == c.Image {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace")}
}

func validateContainerPorts(ports []corev1.ContainerPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, port := range ports {
		path := at.Index(i)
		if port.Name != "" {
			if msgs := validation.IsValidPortName(port.Name); len(msgs) > 0 {
				errs = append(errs, check.Messages(path.Child("name"), port.Name, msgs)...)
			} else if names[port.Name] {
				errs = append(errs, field.Duplicate(path.Child("name"), port.Name))
			}
			names[port.Name] = true
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(path.Child("containerPort"), ""))
		} else {
			errs = append(errs, check.Messages(path.Child("containerPort"), port.ContainerPort, validation.IsValidPortNum(int(port.ContainerPort)))...)
		}
		if port.HostPort != 0 {
			errs = append(errs, check.Messages(path.Child("hostPort"), port.HostPort, validation.IsValidPortNum(int(port.HostPort)))...)
		}
		errs = append(errs, check.OneOf(port.Protocol, path.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
}

// validateHostPorts refuses two containers with the same port of the node.
func validateHostPorts(containers []corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	taken := map[string]bool{}
	for i := range containers {
		for j, port := range containers[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
			if taken[key] {
				errs = append(errs, field.Duplicate(at.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			taken[key] = true
		}
	}
	return errs
}

func validateResizePolicy(policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, p := range policies {
		if slices.ContainsFunc(policies[:i], func(q corev1.ContainerResizePolicy) bool { return q.ResourceName == p.ResourceName }) {
			errs = append(errs, field.Duplicate(at.Index(i), p.ResourceName))
		}
		errs = append(errs, check.OneOf(p.ResourceName, at, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, check.OneOf(p.RestartPolicy, at, corev1.NotRequired, corev1.RestartContainer)...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

func validateInitRestart(c *corev1.Container, at *field.Path) field.ErrorList {
	if c.RestartPolicy == nil && len(c.RestartPolicyRules) > 0 {
		return field.ErrorList{field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")}
	}
	if c.RestartPolicy == nil {
		return nil
	}
	return validateRestartRules(c, at)
}

// validateRestartRules judges when a container, apart from its pod, is restarted.
func validateRestartRules(c *corev1.Container, at *field.Path) field.ErrorList {
	const maxRules, maxCodes = 20, 255
	var errs field.ErrorList
	policy, rules := c.RestartPolicy, c.RestartPolicyRules
	switch {
	case policy == nil && len(rules) == 0:
		return nil
	case policy == nil:
		errs = append(errs, field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	default:
		errs = append(errs, oneOf(*policy, at.Child("restartPolicy"), corev1.ContainerRestartPolicyAlways,
			corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	}
	if len(rules) > maxRules {
		errs = append(errs, field.TooMany(at.Child("restartPolicyRules"), len(rules), maxRules))
	}
	for i, rule := range rules {
		path := at.Child("restartPolicyRules").Index(i)
		errs = append(errs, oneOf(rule.Action, path.Child("action"), corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		codes := path.Child("exitCodes")
		if rule.ExitCodes == nil {
			errs = append(errs, field.Required(codes, "must be specified"))
			continue
		}
		errs = append(errs, oneOf(rule.ExitCodes.Operator, codes.Child("operator"), corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if len(rule.ExitCodes.Values) > maxCodes {
			errs = append(errs, field.TooMany(codes.Child("values"), len(rule.ExitCodes.Values), maxCodes))
		}
	}
	return errs
}
