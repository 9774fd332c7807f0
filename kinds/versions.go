// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds/reshape"
)

// pointer is an API object whose structure is T.
type pointer[T any] interface {
	*T
	Object
}

// list is a list of API objects whose structure is T.
type list[T any] interface {
	*T
	runtime.Object
}

// Versioned is a version whose objects are V and lists are L, of a kind that is stored as S. Both functions get an object of their own and
// may leave parts of it in what they return.
func Versioned[V, L, S any, PV pointer[V], PL list[L], PS pointer[S]](gvk schema.GroupVersionKind, from func(*S) *V, to func(*V) *S) Served {
	out := Plain[V, L, PV, PL](gvk)
	out.FromStorage = func(obj Object) (Object, error) {
		converted := PV(from(obj.DeepCopyObject().(PS)))
		converted.GetObjectKind().SetGroupVersionKind(gvk)
		return converted, nil
	}
	out.ToStorage = func(obj Object) (Object, error) { return PS(to(obj.DeepCopyObject().(PV))), nil }
	return out
}

// Plain is the version that a kind is stored in, for kinds that are served on request only.
func Plain[V, L any, PV pointer[V], PL list[L]](gvk schema.GroupVersionKind) Served {
	out := Served{
		GroupVersionKind: gvk,
		New:              func() Object { return PV(new(V)) },
		NewList:          func() runtime.Object { return PL(new(L)) },
	}
	out.Deprecated, out.Removed = deprecation(gvk, PV(new(V)))
	return out
}

// Mirror is Versioned for types that have the same fields.
func Mirror[V, L, S any, PV pointer[V], PL list[L], PS pointer[S]](gvk schema.GroupVersionKind) Served {
	return Versioned[V, L, S, PV, PL, PS](gvk,
		func(in *S) *V { out := new(V); reshape.Copy(out, in); return out },
		func(in *V) *S { out := new(S); reshape.Copy(out, in); return out })
}

// lifecycle is what types of k8s.io/api say about versions that will go, or have gone, with a release.
type lifecycle interface {
	APILifecycleDeprecated() (major, minor int)
	APILifecycleRemoved() (major, minor int)
}

// release is the minor version of Kubernetes 1 whose API this is.
const release = 36

// deprecation is the warning that requests for a version are answered with, and the release that removes it: empty while its type says
// nothing, or names a later release.
func deprecation(gvk schema.GroupVersionKind, empty Object) (warning, removed string) {
	obj, ok := empty.(lifecycle)
	if !ok {
		return "", ""
	}
	major, minor := obj.APILifecycleDeprecated()
	if major == 0 || minor > release {
		return "", ""
	}
	warning = fmt.Sprintf("%s %s is deprecated in v%d.%d+", gvk.GroupVersion(), gvk.Kind, major, minor)
	if major, minor = obj.APILifecycleRemoved(); major > 0 {
		removed = fmt.Sprintf("%d.%d", major, minor)
		warning += ", unavailable in v" + removed + "+"
	}
	if next, ok := empty.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		gvk := next.APILifecycleReplacement()
		warning += fmt.Sprintf("; use %s %s", gvk.GroupVersion(), gvk.Kind)
	}
	return warning, removed
}
