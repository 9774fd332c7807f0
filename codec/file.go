// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// APIServerVersions are those of kube-apiserver's files whose fields and defaults are the same in all.
var APIServerVersions = []schema.GroupVersion{
	{Group: "apiserver.config.k8s.io", Version: "v1"},
	{Group: "apiserver.config.k8s.io", Version: "v1beta1"},
	{Group: "apiserver.config.k8s.io", Version: "v1alpha1"},
}

// DecodeFile reads a configuration file in the form of API objects, YAML or JSON, strictly: its kind must be kind, its version one of
// versions, and unknown or repeated fields are errors. The versions must have the same fields: into is one structure for all.
func DecodeFile(data []byte, kind string, versions []schema.GroupVersion, into any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("empty config data")
	}
	raw, err := yaml.YAMLToJSON(data)
	if err != nil {
		return fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
	}
	var meta metav1.TypeMeta
	if err := json.UnmarshalCaseSensitivePreserveInts(raw, &meta); err != nil {
		return fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
	}
	switch {
	case meta.Kind == "":
		return errors.New("Object 'Kind' is missing") //nolint:staticcheck // Upstream's words.
	case meta.APIVersion == "":
		return errors.New("Object 'apiVersion' is missing") //nolint:staticcheck // Upstream's words.
	case meta.Kind != kind || !slices.ContainsFunc(versions, func(gv schema.GroupVersion) bool { return gv.String() == meta.APIVersion }):
		known := make([]string, len(versions))
		for i, gv := range versions {
			known[i] = gv.String()
		}
		return fmt.Errorf("no kind %q is registered for version %q; want %s of %s", meta.Kind, meta.APIVersion, kind, strings.Join(known, ", "))
	}
	var problems []string
	if raw, err = yaml.YAMLToJSONStrict(data); err != nil {
		problems = append(problems, err.Error())
		if raw, err = yaml.YAMLToJSON(data); err != nil {
			return err
		}
	}
	strict, err := json.UnmarshalStrict(raw, into)
	if err != nil {
		return err
	}
	for _, err := range strict {
		problems = append(problems, err.Error())
	}
	if len(problems) > 0 {
		return fmt.Errorf("strict decoding error: %s", strings.Join(problems, ", "))
	}
	return nil
}
