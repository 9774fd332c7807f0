// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/invariant"
	"kogge.dev/kogge/internal/version"
	"kogge.dev/kogge/kinds/catalog"
)

// kubeconfigFile is an API server and an identity there, from the current context of a kubeconfig in any of its forms: files or
// data, certificates, tokens or programs that get one.
type kubeconfigFile struct {
	config *rest.Config
	kinds  *catalog.Catalog
}

func openKubeconfig(path string) (*kubeconfigFile, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err == nil {
		config.DisableCompression = true
		err = rest.LoadTLSFiles(config)
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	k := &kubeconfigFile{config: config, kinds: catalog.New()}
	if _, err := k.backend(nil, "", nil); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return k, nil
}

// openWebhook returns the address of the webhook that a kubeconfig names, and what calls it with the kubeconfig's identity, each time
// for at most timeout.
func openWebhook(path string, timeout time.Duration) (url string, caller *http.Client, err error) {
	k, err := openKubeconfig(path)
	if err != nil {
		return "", nil, err
	}
	carrier, err := rest.TransportFor(k.config)
	if err != nil {
		return "", nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return k.config.Host, &http.Client{Transport: carrier, Timeout: timeout}, nil
}

// authority returns the certificate authority that the kubeconfig trusts, in PEM; nil if it is the machine's.
func (k *kubeconfigFile) authority() []byte { return k.config.CAData }

// http returns what carries requests with the kubeconfig's identity, of a program that calls itself agent.
func (k *kubeconfigFile) http(agent string) (*client.HTTP, error) {
	trip, err := rest.TransportFor(k.config)
	if err != nil {
		return nil, err
	}
	return k.backend(trip, agent, nil)
}

// client returns a client with the kubeconfig's identity that calls itself agent.
func (k *kubeconfigFile) client(agent string) (*client.Client, error) {
	backend, err := k.http(agent)
	return client.New(backend, k.kinds), err
}

// anonymous returns a connection to the server that carries no identity.
func (k *kubeconfigFile) anonymous() (http.RoundTripper, error) {
	return rest.TransportFor(rest.AnonymousClientConfig(k.config))
}

// over returns a client that uses a connection with a token.
func (k *kubeconfigFile) over(trip http.RoundTripper, agent string, token func() (string, error)) *client.Client {
	backend, err := k.backend(trip, agent, token)
	invariant.Check(err == nil, "kubeconfig: backend of a server that was opened: %v", err)
	return client.New(backend, k.kinds)
}

// backend fails only for a server that is no URL.
func (k *kubeconfigFile) backend(trip http.RoundTripper, agent string, token func() (string, error)) (*client.HTTP, error) {
	return client.NewHTTP(client.HTTPConfig{
		Server: k.config.Host, Token: token, UserAgent: agent + "/" + version.Kubernetes, Catalog: k.kinds, RoundTripper: trip,
	})
}

// administrator returns a client of the cluster of a data folder, for its administrator.
func administrator(dataDir string) (*client.Client, *kubeconfigFile, error) {
	server, err := openKubeconfig(AdminKubeconfig(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w (is there a cluster? 'kogge up' starts one)", err)
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := server.client("kogge")
	return c, server, err
}
