// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// optionsKind names the verbs' options objects, which have no kind of their own in requests.
func optionsKind(obj runtime.Object) schema.GroupVersionKind {
	gv := schema.GroupVersion{Group: metav1.GroupName, Version: "v1"}
	switch obj.(type) {
	case *metav1.CreateOptions:
		return gv.WithKind("CreateOptions")
	case *metav1.UpdateOptions:
		return gv.WithKind("UpdateOptions")
	case *metav1.PatchOptions:
		return gv.WithKind("PatchOptions")
	case *metav1.DeleteOptions:
		return gv.WithKind("DeleteOptions")
	}
	return schema.GroupVersionKind{}
}
