// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Fleet is a number of ships with a home port.
type Fleet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	Spec   FleetSpec   `json:"spec,omitzero"`
	Status FleetStatus `json:"status,omitzero"`
}

// FleetSpec is what is wanted.
type FleetSpec struct {
	Ships int    `json:"ships,omitempty"`
	Home  string `json:"home,omitempty"`
}

// FleetStatus is what there is.
type FleetStatus struct {
	Ships      int                `json:"ships,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (f *Fleet) DeepCopyObject() runtime.Object {
	out := *f
	f.DeepCopyInto(&out.ObjectMeta)
	out.Status.Conditions = nil
	for _, c := range f.Status.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, *c.DeepCopy())
	}
	return &out
}

// FleetList is a list of fleets.
type FleetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []Fleet `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *FleetList) DeepCopyObject() runtime.Object {
	out := *l
	l.DeepCopyInto(&out.ListMeta)
	out.Items = nil
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*Fleet))
	}
	return &out
}

func addToScheme(scheme *runtime.Scheme) {
	gv := schema.GroupVersion{Group: "sea.example", Version: "v1"}
	scheme.AddKnownTypes(gv, &Fleet{}, &FleetList{})
	metav1.AddToGroupVersion(scheme, gv)
}
