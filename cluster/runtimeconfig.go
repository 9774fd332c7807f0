// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"

	"kogge.dev/kogge/kinds/catalog"
)

// RuntimeConfig turns versions of the API on and off, as kube-apiserver's flag of that name does. Keys are api/all, api/ga, api/beta,
// api/alpha, group/version or group/version/resource; values are true or false, and empty ones are true.
type RuntimeConfig map[string]string

// UnmarshalJSON takes values as text or as they are.
func (c *RuntimeConfig) UnmarshalJSON(text []byte) error {
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		return fmt.Errorf("api.runtimeConfig: %w", err)
	}
	*c = make(RuntimeConfig, len(values))
	for key, value := range values {
		switch v := value.(type) {
		case string:
			(*c)[key] = v
		case bool:
			(*c)[key] = fmt.Sprint(v)
		default:
			return fmt.Errorf("api.runtimeConfig: %s: %v is not true or false", key, v)
		}
	}
	return nil
}

// validate names the keys that ask for nothing that is there.
func (c RuntimeConfig) validate() error {
	if len(c) == 0 {
		return nil
	}
	if _, err := catalog.Serving(c); err != nil {
		return fmt.Errorf("api.runtimeConfig: %w", err)
	}
	return nil
}
