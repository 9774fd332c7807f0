// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// defaultKubeletPort is used for nodes that announce none.
const defaultKubeletPort = 10250

// Kubelets returns a Config.Scrape that asks kubelets over HTTPS. The client carries the certificate that kubelets know and the trust in
// theirs; node returns a Node by name, or nil.
func Kubelets(client *http.Client, node func(name string) *corev1.Node) func(ctx context.Context, name string) (io.ReadCloser, error) {
	return func(ctx context.Context, name string) (io.ReadCloser, error) {
		n := node(name)
		if n == nil {
			return nil, fmt.Errorf("node %s is unknown", name)
		}
		host := kubeletAddress(n)
		if host == "" {
			return nil, fmt.Errorf("node %s has no address", name)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/metrics/resource", nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			defer resp.Body.Close()
			return nil, fmt.Errorf("kubelet of %s answers %s", name, resp.Status)
		}
		return resp.Body, nil
	}
}

// kubeletAddress returns where a node's kubelet listens, empty if that is not known.
func kubeletAddress(n *corev1.Node) string {
	port := int(n.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		port = defaultKubeletPort
	}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName} {
		for _, a := range n.Status.Addresses {
			if a.Type == kind {
				return net.JoinHostPort(a.Address, strconv.Itoa(port))
			}
		}
	}
	return ""
}
