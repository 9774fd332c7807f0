// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
)

// Offered lists the resources of a group-version that its server offers with all of the verbs, without subresources. It is for the
// group-versions of aggregated API servers: the others are known from the catalog and from definitions.
func Offered(ctx context.Context, c *client.Client, gv schema.GroupVersion, verbs ...string) ([]metav1.APIResource, error) {
	all, err := c.Resources(ctx, gv)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r metav1.APIResource) bool {
		return strings.Contains(r.Name, "/") || slices.ContainsFunc(verbs, func(verb string) bool { return !slices.Contains(r.Verbs, verb) })
	}), nil
}
