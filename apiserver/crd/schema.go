// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// readLimit is how long the definition is waited for when a part of it is needed.
const readLimit = 10 * time.Second

// reader reads a definition as it is now.
type reader func(ctx context.Context, name string) (*apiextensionsv1.CustomResourceDefinition, error)

// version reads a version of a definition, whole. Schemas and columns are not kept here: few versions of a cluster are ever used, and the definition is in the
// watch cache. Should it have changed in this moment, so that we are about to be replaced, it is the new one that counts.
func (read reader) version(definition, version string) (*apiextensionsv1.CustomResourceDefinitionVersion, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	crd, err := read(ctx, definition)
	if err != nil {
		return nil, fmt.Errorf("read version %s of %s: %w", version, definition, err)
	}
	i := slices.IndexFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == version })
	if i < 0 {
		return nil, fmt.Errorf("definition %s has no version %s any more", definition, version)
	}
	return &crd.Spec.Versions[i], nil
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
