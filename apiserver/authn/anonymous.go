// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"strings"
)

// AnonymousPaths is design law 2: without credentials only health, version and the join discovery can be asked for. What
// may be done there is still RBAC's to say.
func AnonymousPaths(path string) bool {
	switch path {
	case "/healthz", "/livez", "/readyz", "/version", "/version/",
		"/api/v1/namespaces/kube-public/configmaps/cluster-info":
		return true
	}
	for _, prefix := range []string{"/healthz/", "/livez/", "/readyz/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}
