// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

// taintsAnnotation held a node's taints before they had a field.
const taintsAnnotation = "scheduler.alpha.kubernetes.io/taints"

// featureName is the form of the names of features that a node declares.
var featureName = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*$`)

func validateNode(_ kinds.Request, n *corev1.Node) field.ErrorList {
	errs := validateNodeState(n)
	swap := n.Status.NodeInfo.Swap
	if swap != nil && swap.Capacity != nil && *swap.Capacity <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "nodeSwapStatus", "capacity"), *swap.Capacity, "must be greater than zero"))
	}
	return append(errs, validatePodCIDRs(n.Spec.PodCIDRs, field.NewPath("spec", "podCIDRs"))...)
}

// validateNodeState judges what an update of the node and one of its status judge alike.
func validateNodeState(n *corev1.Node) field.ErrorList {
	meta := field.NewPath("metadata")
	errs := validateNodeAnnotations(n.Annotations, meta.Child("annotations"))
	errs = append(errs, validateTaints(n.Spec.Taints, meta.Child("taints"))...)
	for _, list := range []struct {
		name string
		list corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for name, quantity := range list.list {
			errs = append(errs, podspec.ValidateQuantity(name, quantity, field.NewPath("status", list.name, string(name)))...)
		}
	}
	return append(errs, validateFeatures(n.Status.DeclaredFeatures, field.NewPath("status", "declaredFeatures"))...)
}

func validateNodeUpdate(req kinds.Request, new, old *corev1.Node) field.ErrorList {
	return append(validateNode(req, new), validateNodeTransition(new, old)...)
}

// validateNodeChange judges an update of the status.
func validateNodeChange(_ kinds.Request, new, old *corev1.Node) field.ErrorList {
	return append(validateNodeState(new), validateNodeTransition(new, old)...)
}

func validateNodeTransition(new, old *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	spec, status := field.NewPath("spec"), field.NewPath("status")
	for i, address := range new.Status.Addresses {
		if slices.Contains(new.Status.Addresses[:i], address) {
			errs = append(errs, field.Duplicate(status.Child("addresses").Index(i), address))
		}
	}
	// The controller that hands out addresses sets the CIDRs once.
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, new.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(spec.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != new.Spec.ProviderID {
		errs = append(errs, field.Forbidden(spec.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	if new.Spec.ConfigSource != nil {
		errs = append(errs, validateConfigSource(new.Spec.ConfigSource, spec.Child("configSource"), configWanted)...)
	}
	if config := new.Status.Config; config != nil {
		for _, c := range []struct {
			name   string
			source *corev1.NodeConfigSource
		}{{"assigned", config.Assigned}, {"active", config.Active}, {"lastKnownGood", config.LastKnownGood}} {
			if c.source != nil {
				errs = append(errs, validateConfigSource(c.source, status.Child("config", c.name), configObserved)...)
			}
		}
	}
	if new.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(spec.Child("externalID"), "may not be updated"))
	}
	return errs
}

// configPlace says where a reference to a kubelet configuration stands.
type configPlace int

const (
	configWanted   configPlace = iota // in the spec, which names no revision
	configObserved                    // in the status, which does
)

func validateConfigSource(source *corev1.NodeConfigSource, path *field.Path, place configPlace) field.ErrorList {
	ref := source.ConfigMap
	if ref == nil {
		return field.ErrorList{field.Invalid(path, source, "exactly one reference subfield must be non-nil")}
	}
	var errs field.ErrorList
	at := path.Child("configMap")
	for _, f := range []struct{ name, value string }{{"uid", string(ref.UID)}, {"resourceVersion", ref.ResourceVersion}} {
		switch {
		case place == configWanted && f.value != "":
			errs = append(errs, field.Forbidden(at.Child(f.name), f.name+" must not be set in spec"))
		case place == configObserved && f.value == "":
			errs = append(errs, field.Required(at.Child(f.name), ""))
		}
	}
	for _, f := range []struct {
		name, value string
		rule        func(string) []string
	}{
		{"namespace", ref.Namespace, validation.IsDNS1123Label},
		{"name", ref.Name, validation.IsDNS1123Subdomain},
		{"kubeletConfigKey", ref.KubeletConfigKey, validation.IsConfigMapKey},
	} {
		if f.value == "" {
			errs = append(errs, field.Required(at.Child(f.name), ""))
		} else {
			errs = append(errs, check.Messages(at.Child(f.name), f.value, f.rule(f.value))...)
		}
	}
	return errs
}

func validatePodCIDRs(cidrs []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), cidr, true, nil)...)
	}
	if len(cidrs) < 2 {
		return errs
	}
	dual, err := netutils.IsDualStackCIDRStrings(cidrs)
	if err != nil {
		errs = append(errs, field.InternalError(path, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
	}
	if !dual || len(cidrs) > 2 {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, taint := range taints {
		at := path.Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(taint.Key, at.Child("key"))...)
		if msgs := validation.IsValidLabelValue(taint.Value); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("value"), taint.Value, strings.Join(msgs, ";")))
		}
		errs = append(errs, podspec.ValidateTaintEffect(taint.Effect, at.Child("effect"))...)
		if slices.ContainsFunc(taints[:i], func(t corev1.Taint) bool { return t.Key == taint.Key && t.Effect == taint.Effect }) {
			twice := field.Duplicate(at, taint)
			twice.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, twice)
		}
	}
	return errs
}

// validateNodeAnnotations judges annotations that came before fields and that some clients still write.
func validateNodeAnnotations(annotations map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if text := annotations[taintsAnnotation]; text != "" {
		var taints []corev1.Taint
		if err := json.Unmarshal([]byte(text), &taints); err != nil {
			errs = append(errs, field.Invalid(path, taintsAnnotation, err.Error()))
		} else {
			errs = append(errs, validateTaints(taints, path.Child(taintsAnnotation))...)
		}
	}
	if text := annotations[corev1.PreferAvoidPodsAnnotationKey]; text != "" {
		errs = append(errs, validateAvoidPods(text, path)...)
	}
	return errs
}

func validateAvoidPods(text string, path *field.Path) field.ErrorList {
	var avoid corev1.AvoidPods
	if err := json.Unmarshal([]byte(text), &avoid); err != nil {
		return field.ErrorList{field.Invalid(path.Child("AvoidPods"), corev1.PreferAvoidPodsAnnotationKey, err.Error())}
	}
	var errs field.ErrorList
	for i, entry := range avoid.PreferAvoidPods {
		at := path.Child(corev1.PreferAvoidPodsAnnotationKey).Index(i).Child("PodSignature")
		owner := entry.PodSignature.PodController
		switch {
		case owner == nil:
			errs = append(errs, field.Required(at, ""))
		case owner.Controller == nil || !*owner.Controller:
			errs = append(errs, field.Invalid(at.Child("PodController", "Controller"), false, "must point to a controller"))
		}
	}
	return errs
}

func validateFeatures(features []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range features {
		switch {
		case len(name) > validation.DNS1123SubdomainMaxLength:
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", name, validation.DNS1123SubdomainMaxLength)))
		case !featureName.MatchString(name):
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", name)))
		}
		if i == 0 {
			continue
		}
		if previous := features[i-1]; previous == name {
			errs = append(errs, field.Duplicate(path.Index(i), name))
		} else if previous > name {
			errs = append(errs, field.Invalid(path.Index(i), name, "list must be sorted alphabetically"))
		}
	}
	return errs
}
