// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func sameType(a, b runtime.Object) bool { return reflect.TypeOf(a) == reflect.TypeOf(b) }

// retype turns a tree into a typed object: in-process clients may hold built-in objects in either form.
func retype(obj, into runtime.Object, want schema.GroupVersionKind) (runtime.Object, error) {
	tree, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a %T cannot be handled as a %s", obj, want.Kind)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree.Object, into); err != nil {
		return nil, err
	}
	return into, nil
}
