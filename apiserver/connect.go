// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"

	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/kinds"
)

// connect serves subresources that are streams or go to other servers; false leaves the request to the engine.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, t *rest.Target, sub *kinds.Subresource) bool {
	return false
}
