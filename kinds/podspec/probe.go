// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
)

// probePurpose says what a probe is for.
type probePurpose int

const (
	liveness  probePurpose = iota // its failure restarts the container; startup probes are of this sort
	readiness                     // its failure takes the pod out of service
)

func validateProbe(probe *corev1.Probe, grace *int64, purpose probePurpose, at *field.Path) field.ErrorList {
	if probe == nil {
		return nil
	}
	errs := validateHandler(handler{
		exec: probe.Exec, httpGet: probe.HTTPGet, tcpSocket: probe.TCPSocket, grpc: probe.GRPC,
	}, grace, at)
	errs = append(errs, check.Counts(at,
		check.Count{Field: "initialDelaySeconds", Value: int64(probe.InitialDelaySeconds)},
		check.Count{Field: "timeoutSeconds", Value: int64(probe.TimeoutSeconds)},
		check.Count{Field: "periodSeconds", Value: int64(probe.PeriodSeconds)},
		check.Count{Field: "successThreshold", Value: int64(probe.SuccessThreshold)},
		check.Count{Field: "failureThreshold", Value: int64(probe.FailureThreshold)},
	)...)
	seconds := probe.TerminationGracePeriodSeconds
	if seconds != nil && *seconds <= 0 {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *seconds, "must be greater than 0"))
	}
	if purpose == readiness && seconds != nil {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), seconds, "must not be set for readinessProbes"))
	}
	if purpose == liveness && probe.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(at.Child("successThreshold"), probe.SuccessThreshold, "must be 1"))
	}
	return errs
}

func validateHook(hook *corev1.LifecycleHandler, grace *int64, at *field.Path) field.ErrorList {
	if hook == nil {
		return nil
	}
	return validateHandler(handler{exec: hook.Exec, httpGet: hook.HTTPGet, tcpSocket: hook.TCPSocket, sleep: hook.Sleep}, grace, at)
}

// handler is what probes and hooks do; exactly one field may be set.
type handler struct {
	exec      *corev1.ExecAction
	httpGet   *corev1.HTTPGetAction
	tcpSocket *corev1.TCPSocketAction
	grpc      *corev1.GRPCAction
	sleep     *corev1.SleepAction
}

func validateHandler(h handler, grace *int64, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := false
	for _, action := range []struct {
		name     string
		set      bool
		validate func(at *field.Path) field.ErrorList
	}{
		{"exec", h.exec != nil, func(at *field.Path) field.ErrorList {
			if len(h.exec.Command) == 0 {
				return field.ErrorList{field.Required(at.Child("command"), "")}
			}
			return nil
		}},
		{"httpGet", h.httpGet != nil, func(at *field.Path) field.ErrorList { return validateHTTPGet(h.httpGet, at) }},
		{"tcpSocket", h.tcpSocket != nil, func(at *field.Path) field.ErrorList { return ValidatePort(h.tcpSocket.Port, at.Child("port")) }},
		{"grpc", h.grpc != nil, func(at *field.Path) field.ErrorList {
			return ValidatePort(intstr.FromInt32(h.grpc.Port), at.Child("port"))
		}},
		{"sleep", h.sleep != nil, func(at *field.Path) field.ErrorList { return validateSleep(h.sleep, grace, at) }},
	} {
		switch {
		case !action.set:
		case found:
			errs = append(errs, field.Forbidden(at.Child(action.name), "may not specify more than 1 handler type"))
		default:
			found = true
			errs = append(errs, action.validate(at.Child(action.name))...)
		}
	}
	if !found {
		errs = append(errs, field.Required(at, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(action *corev1.HTTPGetAction, at *field.Path) field.ErrorList {
	errs := Require(at, "path", action.Path)
	errs = append(errs, ValidatePort(action.Port, at.Child("port"))...)
	errs = append(errs, oneOf(action.Scheme, at.Child("scheme"), corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for _, header := range action.HTTPHeaders {
		errs = append(errs, check.Messages(at.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}

// validateSleep requires that a pause fits into the pod's grace period; one that is missing is reported elsewhere.
func validateSleep(action *corev1.SleepAction, grace *int64, at *field.Path) field.ErrorList {
	if grace == nil || action.Seconds >= 0 && action.Seconds <= *grace {
		return nil
	}
	return field.ErrorList{field.Invalid(at, action.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))}
}

// ValidatePort judges a port by number or name.
func ValidatePort(port intstr.IntOrString, at *field.Path) field.ErrorList {
	if port.Type == intstr.Int {
		return check.Messages(at, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	}
	return check.Messages(at, port.StrVal, validation.IsValidPortName(port.StrVal))
}
