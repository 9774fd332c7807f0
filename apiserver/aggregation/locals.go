// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package aggregation

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// Priorities of group-versions that definitions make, as upstream registers them.
const (
	customPriority        = 1000
	customVersionPriority = 100
)

// marks are the labels of the APIServices that this controller makes, by the value of managedLabel. Nobody changes them.
var marks = map[string]map[string]string{managedStart: {managedLabel: managedStart}, managedLive: {managedLabel: managedLive}}

// name of the APIService.
func (l Local) name() string { return l.Version + "." + l.Group }

func (l Local) spec() apiregistrationv1.APIServiceSpec {
	return apiregistrationv1.APIServiceSpec{Group: l.Group, Version: l.Version, GroupPriorityMinimum: l.Priority, VersionPriority: l.VersionPriority}
}

// describe returns the APIService.
func (l Local) describe() *apiregistrationv1.APIService {
	mark := managedStart
	if l.Custom {
		mark = managedLive
	}
	return &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: l.name(), Labels: marks[mark]}, Spec: l.spec()}
}

// outline returns what the aggregator needs to know of an APIService that it made, in an object of its own: most are such, and they are as many as there are
// groups of definitions. Others are returned whole.
func outline(svc *apiregistrationv1.APIService) *apiregistrationv1.APIService {
	labels := marks[svc.Labels[managedLabel]]
	if labels == nil || svc.Spec.Service != nil {
		return svc
	}
	text, end := svc.Name+string(svc.UID), len(svc.Name)
	out := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: text[:end], UID: types.UID(text[end:]), Labels: labels, DeletionTimestamp: svc.DeletionTimestamp},
		Spec:       svc.Spec,
	}
	out.Spec.Version, out.Spec.Group, _ = strings.Cut(out.Name, ".")
	return out
}

// Locals lists the group-versions of built-in kinds and of custom resource definitions.
func Locals(builtIn []*kinds.Kind, custom []schema.GroupVersion) []Local {
	var out []Local
	for _, g := range discovery.Groups(builtIn) {
		if g.Discovery.Name == apiregistrationv1.GroupName {
			continue // As upstream, whose aggregator is none of those that it passes requests on to.
		}
		for _, v := range g.Discovery.Versions {
			gv := schema.GroupVersion{Group: g.Discovery.Name, Version: v.Version}
			_, priority := catalog.Priorities(gv)
			out = append(out, Local{GroupVersion: gv, Priority: int32(g.Priority), VersionPriority: priority})
		}
	}
	for _, gv := range custom {
		out = append(out, Local{GroupVersion: gv, Custom: true, Priority: customPriority, VersionPriority: customVersionPriority})
	}
	return out
}
