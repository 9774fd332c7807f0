// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Strategy is the typed form of a Kind's functions, so that a descriptor is written without type assertions. Each
// field means what the field of the same name in Kind means; Define erases the type.
type Strategy[T Object] struct {
	Default        func(obj T)
	PrepareCreate  func(req Request, obj T)
	PrepareUpdate  func(req Request, new, old T)
	Validate       func(req Request, obj T) field.ErrorList
	ValidateUpdate func(req Request, new, old T) field.ErrorList
	// Warn receives a nil old on create.
	Warn        func(req Request, new, old T) []string
	Fields      func(obj T) fields.Set
	Columns     []metav1.TableColumnDefinition
	Row         func(obj T, now time.Time) []any
	Order       func(a, b T) int
	Conditions  func(obj T) []metav1.TableRowCondition
	GracePeriod func(obj T, opts *metav1.DeleteOptions) (seconds int64, graceful bool)
	TTL         func(obj T) time.Duration
	Read        func(obj T)
	BeginDelete func(obj T, now metav1.Time)
}

// Define completes kind for a resource that is stored under one version, and served under it by default unless that is on request: gvk is
// that version, newT and newL make an empty object and list. Names, scope, verbs, subresources and switches are taken from kind as given.
func Define[T Object](kind Kind, gvk schema.GroupVersionKind, newT func() T, newL func() runtime.Object, s Strategy[T]) *Kind {
	empty := func() Object { return newT() }
	if kind.Storage.New == nil {
		kind.Storage.GroupVersionKind, kind.Storage.New, kind.Storage.NewList = gvk, empty, newL
	}
	asked := slices.ContainsFunc(kind.OnRequest, func(s Served) bool { return s.GroupVersionKind == gvk })
	if kind.Served == nil && !asked {
		kind.Served = []Served{{GroupVersionKind: gvk, New: empty, NewList: newL}}
	}
	if s.Default != nil {
		kind.Default = func(obj Object) { s.Default(obj.(T)) }
	}
	if s.PrepareCreate != nil {
		kind.PrepareCreate = func(req Request, obj Object) { s.PrepareCreate(req, obj.(T)) }
	}
	kind.PrepareUpdate = Pair(s.PrepareUpdate)
	if s.Validate != nil {
		kind.Validate = func(req Request, obj Object) field.ErrorList { return s.Validate(req, obj.(T)) }
	}
	kind.ValidateUpdate = Judge(s.ValidateUpdate)
	if s.Read != nil {
		kind.Read = func(obj Object) { s.Read(obj.(T)) }
	}
	if s.BeginDelete != nil {
		kind.BeginDelete = func(obj Object, now metav1.Time) { s.BeginDelete(obj.(T), now) }
	}
	if s.Warn != nil {
		kind.Warn = func(req Request, new, old Object) []string {
			var before T
			if old != nil {
				before = old.(T)
			}
			return s.Warn(req, new.(T), before)
		}
	}
	if s.Fields != nil {
		kind.Fields = func(obj Object) fields.Set { return s.Fields(obj.(T)) }
	}
	if s.Row != nil {
		kind.Table = &Table{Columns: s.Columns, Row: func(obj Object, now time.Time) []any { return s.Row(obj.(T), now) }}
		if s.Conditions != nil {
			kind.Table.Conditions = func(obj Object) []metav1.TableRowCondition { return s.Conditions(obj.(T)) }
		}
	}
	if s.Order != nil {
		kind.Table.Order = func(a, b Object) int { return s.Order(a.(T), b.(T)) }
	}
	if s.GracePeriod != nil {
		kind.GracePeriod = func(obj Object, opts *metav1.DeleteOptions) (int64, bool) { return s.GracePeriod(obj.(T), opts) }
	}
	if s.TTL != nil {
		kind.TTL = func(obj Object) time.Duration { return s.TTL(obj.(T)) }
	}
	return &kind
}

// Pair erases the type of a function over a new and an old object, for Kind.PrepareUpdate and Subresource.Prepare.
func Pair[T Object](f func(req Request, new, old T)) func(Request, Object, Object) {
	if f == nil {
		return nil
	}
	return func(req Request, new, old Object) { f(req, new.(T), old.(T)) }
}

// Judge erases the type of an update's validation, for Kind.ValidateUpdate and Subresource.Validate.
func Judge[T Object](f func(req Request, new, old T) field.ErrorList) func(Request, Object, Object) field.ErrorList {
	if f == nil {
		return nil
	}
	return func(req Request, new, old Object) field.ErrorList { return f(req, new.(T), old.(T)) }
}
