// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import "net/url"

// Keys of a user's extra values, as upstream's authenticators set them.
const (
	CredentialIDKey = "authentication.kubernetes.io/credential-id"
	PodNameKey      = "authentication.kubernetes.io/pod-name"
	PodUIDKey       = "authentication.kubernetes.io/pod-uid"
	NodeNameKey     = "authentication.kubernetes.io/node-name"
	NodeUIDKey      = "authentication.kubernetes.io/node-uid"
)

// unescapeExtraKey decodes a key from a header name; a key that does not decode is taken as it is.
func unescapeExtraKey(key string) string {
	if out, err := url.PathUnescape(key); err == nil {
		return out
	}
	return key
}
