// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// packed is a version's schema until somebody needs it: encoded and compressed, it takes a small part of what its structures would. It is nil for a version without a schema.
type packed []byte

// compressors are reused: one takes more memory than what it compresses.
var compressors = sync.Pool{New: func() any {
	w, err := flate.NewWriter(io.Discard, flate.BestSpeed) // a start packs all definitions
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

func pack(spec *apiextensionsv1.CustomResourceDefinitionVersion) (packed, error) {
	if spec.Schema == nil || spec.Schema.OpenAPIV3Schema == nil {
		return nil, nil
	}
	raw, err := spec.Schema.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode schema of version %s: %w", spec.Name, err)
	}
	var out bytes.Buffer
	w, _ := compressors.Get().(*flate.Writer)
	defer compressors.Put(w)
	w.Reset(&out)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(out.Bytes()), nil
}

// unpack returns the schema in the form that the schema packages work on; nil without a schema.
func (p packed) unpack() (*apiextensions.JSONSchemaProps, error) {
	if p == nil {
		return nil, nil
	}
	raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(p)))
	if err != nil {
		return nil, fmt.Errorf("unpack schema: %w", err)
	}
	validation := &apiextensionsv1.CustomResourceValidation{}
	if err := validation.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("unpack schema: %w", err)
	}
	return internalSchema(validation)
}

// internalSchema converts a schema to the form that the schema packages work on; nil without one.
func internalSchema(validation *apiextensionsv1.CustomResourceValidation) (*apiextensions.JSONSchemaProps, error) {
	if validation == nil || validation.OpenAPIV3Schema == nil {
		return nil, nil
	}
	out := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(validation.OpenAPIV3Schema, out, nil); err != nil {
		return nil, fmt.Errorf("convert schema: %w", err)
	}
	return out, nil
}
