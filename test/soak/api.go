// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
)

// api is the administrator's client. Objects have no Go types here, so that they come and go as their texts say.
type api struct {
	config  *rest.Config
	known   *catalog.Catalog
	backend *client.HTTP
	client  *client.Client
}

func newAPI(kubeconfig string) (*api, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err == nil {
		err = rest.LoadTLSFiles(config)
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	a := &api{config: config, known: catalog.New()}
	if a.backend, err = a.connect(); err != nil {
		return nil, err
	}
	a.client = client.New(a.backend, a.known)
	return a, nil
}

// connect returns a backend with connections of its own.
func (a *api) connect() (*client.HTTP, error) {
	tlsConfig, err := rest.TLSConfigFor(a.config)
	if err != nil {
		return nil, err
	}
	return client.NewHTTP(client.HTTPConfig{Server: a.config.Host, TLS: tlsConfig, UserAgent: "soak", Catalog: a.known})
}

type dynamic = client.Resource[*unstructured.Unstructured]

func empty() *unstructured.Unstructured { return &unstructured.Unstructured{} }

// of is the client of a resource.
func (a *api) of(gvr schema.GroupVersionResource) dynamic { return client.At(a.client, gvr, empty) }

// of a built-in resource, as "deployments.apps/v1" or "pods/v1".
func (a *api) built(name string) dynamic {
	resource, version, _ := strings.Cut(name, "/")
	resource, group, _ := strings.Cut(resource, ".")
	return a.of(schema.GroupVersionResource{Group: group, Version: version, Resource: resource})
}

// create makes the objects of a text of YAML documents, in a namespace where their kinds have one.
func (a *api) create(ctx context.Context, namespace, text string) error {
	for document := range strings.SplitSeq(text, "\n---\n") {
		obj := empty()
		if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
			return err
		}
		kind, served := a.known.ByKind(obj.GroupVersionKind())
		if kind == nil {
			return fmt.Errorf("no kind %v", obj.GroupVersionKind())
		}
		if kind.Namespaced {
			obj.SetNamespace(namespace)
		}
		if _, err := a.of(served.GroupVersion().WithResource(kind.Resource)).Create(ctx, obj); err != nil {
			return fmt.Errorf("create %s %s: %w", kind.Resource, obj.GetName(), err)
		}
	}
	return nil
}

// merge changes an object by a merge patch.
func merge(ctx context.Context, of dynamic, namespace, name, patch string) error {
	if _, err := of.Patch(ctx, namespace, name, types.MergePatchType, []byte(patch)); err != nil {
		return fmt.Errorf("patch %s %s: %w", of.GVR().Resource, name, err)
	}
	return nil
}

// gone deletes an object, unless it is not there, and waits for its end.
func gone(ctx context.Context, of dynamic, namespace, name string) error {
	background := metav1.DeletePropagationBackground
	err := client.IgnoreNotFound(of.Delete(ctx, namespace, name, metav1.DeleteOptions{PropagationPolicy: &background}))
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", of.GVR().Resource, name, err)
	}
	return until(ctx, "the end of "+of.GVR().Resource+" "+name, func() error {
		_, err := of.Get(ctx, namespace, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	})
}

// has waits for a value in an object, by its path.
func has(ctx context.Context, of dynamic, namespace, name, path string, want any) error {
	return until(ctx, fmt.Sprintf("%s %s: %s = %v", of.GVR().Resource, name, path, want), func() error {
		obj, err := of.Get(ctx, namespace, name)
		if err != nil {
			return err
		}
		value, _, err := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
		if err == nil && fmt.Sprint(value) != fmt.Sprint(want) {
			err = fmt.Errorf("it is %v", value)
		}
		return err
	})
}

// count waits until a namespace, or with "" the cluster, has so many objects of a resource.
func count(ctx context.Context, of dynamic, namespace, selector string, want int) error {
	return until(ctx, fmt.Sprintf("%d of %s", want, of.GVR().Resource), func() error {
		list, err := of.List(ctx, namespace, metav1.ListOptions{LabelSelector: selector})
		if err == nil && len(list.Items) != want {
			err = fmt.Errorf("there are %d", len(list.Items))
		}
		return err
	})
}

// until asks until the answer is no error, or ctx ends.
func until(ctx context.Context, what string, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if wait(ctx, 150*time.Millisecond) != nil {
			return fmt.Errorf("wait for %s: %w; %w", what, err, context.Cause(ctx))
		}
	}
}

// wait lets time pass; its error says that ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// raw reads a path outside of the resources.
func (a *api) raw(ctx context.Context, path string) ([]byte, error) {
	body, err := open(ctx, a.backend.Client(), a.config.Host+path)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	defer body.Close()
	return io.ReadAll(body)
}
