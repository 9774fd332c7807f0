// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// PathReader is a Backend that can also read paths which are no resources of its own: those of aggregated API servers.
type PathReader interface {
	// Read gets a path below the server's root as JSON. Refusals are *apierrors.StatusError.
	Read(ctx context.Context, path string, query url.Values) ([]byte, error)
}

// Read gets any path of the API server as JSON.
func (c *Client) Read(ctx context.Context, path string, query url.Values) ([]byte, error) {
	reader, ok := c.backend.(PathReader)
	if !ok {
		return nil, fmt.Errorf("read %s: this backend only reads resources", path)
	}
	return reader.Read(ctx, path, query)
}

// Resources lists the resources of a group-version and their subresources, as the API server tells of them.
func (c *Client) Resources(ctx context.Context, gv schema.GroupVersion) ([]metav1.APIResource, error) {
	path := "/apis/" + gv.String()
	if gv.Group == "" {
		path = "/api/" + gv.Version
	}
	body, err := c.Read(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("resources of %s: %w", gv, err)
	}
	return list.APIResources, nil
}

// Read implements PathReader.
func (h *HTTP) Read(ctx context.Context, path string, query url.Values) ([]byte, error) {
	target := *h.base
	target.Path = strings.TrimSuffix(target.Path, "/") + path
	target.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req := &Request{Verb: Get}
	if err := h.headers(r, req, "", false); err != nil {
		return nil, err
	}
	r.Header.Set("Accept", mediaJSON)
	resp, err := h.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return body, StatusError(resp.StatusCode, body)
}

// StatusError turns the answer to a read of a path into an error; nil if it succeeded.
func StatusError(code int, body []byte) error {
	if code < http.StatusBadRequest {
		return nil
	}
	if obj, err := decodeDynamic(body); err == nil {
		if status, ok := obj.(*metav1.Status); ok {
			return &apierrors.StatusError{ErrStatus: *status}
		}
	}
	return apierrors.NewGenericServerResponse(code, string(Get), schema.GroupResource{}, "", string(body), 0, true)
}
