// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package patch applies the patches of the API: JSON patch, JSON merge patch, strategic merge patch, and server-side apply with its record of
// who manages which field. It is pure: objects in, objects out; errors are API status errors.
package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	goruntime "runtime"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	// maxOperations bounds a JSON patch.
	maxOperations = 10_000
	// maxCopied is by how many bytes the copies of one JSON patch may make a document larger. Each may double it.
	maxCopied = 3 << 20
)

// BoundCopies bounds the copies of all JSON patches in this process, those of webhooks and policies too: the library knows one bound for all. It
// is called before the first patch is applied, and again by a second server of the process, which changes nothing.
var BoundCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxCopied })

// Types lists the patch types that ordinary resources take, as messages name them.
var Types = []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType)}

// CustomTypes lists those of custom resources.
var CustomTypes = []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType)}

// Strict collects what is unknown or duplicate in a patch or in the object that it yields. A nil *Strict does not look.
type Strict struct{ Errors []error }

// Operation is one operation of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from,omitempty"`
	Value any    `json:"value"`
}

// Document applies a JSON patch or a merge patch to a JSON document.
func Document(kind types.PatchType, doc, patch []byte, strict *Strict) ([]byte, error) {
	if kind == types.MergePatchType {
		return merge(doc, patch, strict)
	}
	if kind != types.JSONPatchType {
		return nil, fmt.Errorf("unknown Content-Type header for patch: %v", kind)
	}
	if strict != nil {
		var operations []Operation
		found, err := kjson.UnmarshalStrict(patch, &operations)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
		for _, e := range found {
			strict.Errors = append(strict.Errors, fmt.Errorf("json patch %w", e))
		}
	}
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(operations) > maxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(operations)),
		)
	}
	out, err := operations.Apply(doc)
	if err != nil {
		return nil, unprocessable(err)
	}
	return out, nil
}

func merge(doc, patch []byte, strict *Strict) ([]byte, error) {
	if strict != nil {
		var tree map[string]any
		found, err := kjson.UnmarshalStrict(patch, &tree)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
		strict.Errors = append(strict.Errors, found...)
	}
	out, err := jsonpatch.MergePatch(doc, patch)
	if errors.Is(err, jsonpatch.ErrBadJSONPatch) {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return out, err
}

// Strategic applies a strategic merge patch to original and fills into, an empty object of the same type.
func Strategic(original runtime.Object, patch []byte, into runtime.Object, strict *Strict) error {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(original)
	if err != nil {
		return err
	}
	change := map[string]any{}
	if strict != nil {
		found, err := kjson.UnmarshalStrict(patch, &change)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		strict.Errors = append(strict.Errors, found...)
	} else if err := kjson.UnmarshalCaseSensitivePreserveInts(patch, &change); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	merged, err := mergeStrategic(tree, change, into)
	if err != nil {
		return err
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(merged, into, strict != nil)
	if found, ok := runtime.AsStrictDecodingError(err); ok {
		strict.Errors = append(strict.Errors, found.Errors()...)
		return nil
	}
	if err != nil {
		return Invalid(fmt.Sprintf("%+v", change), err)
	}
	return nil
}

// mergeStrategic is the library's merge. It compares items of lists by what the patch says they are named, without looking whether that can be
// compared, and panics where it can't: such a patch yields no sound object.
func mergeStrategic(tree, change map[string]any, like runtime.Object) (out map[string]any, err error) {
	defer func() {
		if v := recover(); v != nil {
			fault, ok := v.(goruntime.Error)
			if !ok {
				panic(v)
			}
			out, err = nil, Invalid(fmt.Sprintf("%+v", change), fault)
		}
	}()
	if out, err = strategicpatch.StrategicMergeMapPatch(tree, change, like); err != nil {
		return nil, strategicError(err)
	}
	return out, nil
}

func strategicError(err error) error {
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return apierrors.NewBadRequest(err.Error())
	case errors.Is(err, mergepatch.ErrNoListOfLists), errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys):
		return unprocessable(err)
	default:
		return err
	}
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

// Invalid is the answer to a patch that yields no sound object.
func Invalid(patch string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), patch, err.Error())})
}

// Applied decodes the body of a server-side apply: YAML, or JSON as most clients send it. Duplicates is not nil when a key is there twice; the
// last one counts then.
func Applied(data []byte) (obj *unstructured.Unstructured, duplicates, err error) {
	tree := map[string]any{}
	if found, err := kjson.UnmarshalStrict(data, &tree); err == nil && len(found) == 0 {
		return &unstructured.Unstructured{Object: orEmpty(tree)}, nil, nil
	}
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		duplicates = fmt.Errorf("error converting YAML to JSON: %w", err)
		if text, err = yaml.YAMLToJSON(data); err != nil {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: error converting YAML to JSON: %v", err))
		}
	}
	// Whole numbers stay such: great ones are not what was sent as floats, and custom resources are judged by their kind.
	tree = map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &tree); err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: error unmarshaling JSON: while decoding JSON: %v", err))
	}
	return &unstructured.Unstructured{Object: orEmpty(tree)}, duplicates, nil
}

// orEmpty is the object of a document that is null.
func orEmpty(tree map[string]any) map[string]any {
	if tree == nil {
		return map[string]any{}
	}
	return tree
}

// Describe renders a patched document for an error message.
func Describe(obj any) string {
	data, err := json.Marshal(obj)
	if err != nil {
		return fmt.Sprintf("%+v", obj)
	}
	return string(data)
}
