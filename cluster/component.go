// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strings"

	"kogge.dev/kogge/internal/nearest"
)

// components that RunComponent knows.
var components = []string{"apiserver", "scheduler", "controllers", "cloud", "kubelet", "proxy", "dns"}

// RunComponent runs one component alone, against the API server of the settings' join section.
func RunComponent(ctx context.Context, settings Settings, name string, console Console) error {
	switch name {
	case "apiserver":
		return Run(ctx, settings, RoleServer, console)
	}
	for _, known := range components {
		if known == name {
			return fmt.Errorf("component %s can't run alone yet; run 'kogge server' and 'kogge agent'", name)
		}
	}
	hint := ""
	if meant := nearest.To(name, components); meant != "" {
		hint = fmt.Sprintf("; did you mean %q?", meant)
	}
	return fmt.Errorf("component %q is not one of %s%s", name, strings.Join(components, ", "), hint)
}
