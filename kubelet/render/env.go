// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sources read the objects that environments refer to. Errors are API errors.
type Sources struct {
	ConfigMap func(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret    func(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// Services lists all services of a namespace that have a cluster address.
	Services func(namespace string) []*corev1.Service
	// File reads a key of an environment file in one of the pod's volumes.
	File func(ref *corev1.FileKeySelector) (value string, found bool, err error)
}

// Environment is what an environment is made from.
type Environment struct {
	Pod     *corev1.Pod
	Spec    *corev1.Container
	Sources Sources
	Facts   Facts
}

// Build returns the variables sorted by name, and the names of skipped keys per source as messages for an event.
func (e Environment) Build(ctx context.Context) (env []*runtimeapi.KeyValue, skipped []string, err error) {
	values := map[string]string{}
	services := e.serviceVariables()
	for i := range e.Spec.EnvFrom {
		note, err := e.from(ctx, &e.Spec.EnvFrom[i], values)
		if err != nil {
			return nil, nil, err
		}
		if note != "" {
			skipped = append(skipped, note)
		}
	}
	lookup := func(name string) (string, bool) {
		if v, ok := values[name]; ok {
			return v, true
		}
		v, ok := services[name]
		return v, ok
	}
	for i := range e.Spec.Env {
		v := &e.Spec.Env[i]
		if v.ValueFrom == nil {
			values[v.Name] = Expand(v.Value, lookup)
			continue
		}
		value, found, err := e.valueFrom(ctx, v.ValueFrom)
		if err != nil {
			return nil, nil, err
		}
		if found {
			values[v.Name] = value
		}
	}
	for name, value := range services {
		if _, ok := values[name]; !ok {
			values[name] = value
		}
	}
	for name, value := range values {
		env = append(env, &runtimeapi.KeyValue{Key: name, Value: []byte(value)})
	}
	slices.SortFunc(env, func(a, b *runtimeapi.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return env, skipped, nil
}

// from adds all keys of a config map or secret.
func (e Environment) from(ctx context.Context, source *corev1.EnvFromSource, values map[string]string) (string, error) {
	var data map[string]string
	kind, name := "configMap", ""
	switch {
	case source.ConfigMapRef != nil:
		name = source.ConfigMapRef.Name
		cm, err := e.Sources.ConfigMap(ctx, e.Pod.Namespace, name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(source.ConfigMapRef.Optional) {
				return "", nil
			}
			return "", err
		}
		data = cm.Data
	case source.SecretRef != nil:
		kind, name = "secret", source.SecretRef.Name
		s, err := e.Sources.Secret(ctx, e.Pod.Namespace, name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(source.SecretRef.Optional) {
				return "", nil
			}
			return "", err
		}
		data = map[string]string{}
		for k, v := range s.Data {
			data[k] = string(v)
		}
	}
	var invalid []string
	for k, v := range data {
		k = source.Prefix + k
		if len(validation.IsRelaxedEnvVarName(k)) > 0 {
			invalid = append(invalid, k)
			continue
		}
		values[k] = v
	}
	if len(invalid) == 0 {
		return "", nil
	}
	slices.Sort(invalid)
	return fmt.Sprintf("Keys [%s] from the EnvFrom %s %s/%s were skipped since they are considered invalid environment variable names.",
		strings.Join(invalid, ", "), kind, e.Pod.Namespace, name), nil
}

// valueFrom returns a variable's value; found is false for a missing optional source.
func (e Environment) valueFrom(ctx context.Context, source *corev1.EnvVarSource) (value string, found bool, err error) {
	switch {
	case source.FieldRef != nil:
		value, err = e.Facts.Field(e.Pod, source.FieldRef.FieldPath)
		return value, err == nil, err
	case source.ResourceFieldRef != nil:
		value, err = e.Facts.Resource(e.Pod, e.Spec, source.ResourceFieldRef)
		return value, err == nil, err
	case source.ConfigMapKeyRef != nil:
		ref := source.ConfigMapKeyRef
		cm, err := e.Sources.ConfigMap(ctx, e.Pod.Namespace, ref.Name)
		if err != nil {
			return "", false, tolerateMissing(err, ref.Optional)
		}
		value, ok := cm.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, e.Pod.Namespace, ref.Name)
		}
		return value, ok, nil
	case source.SecretKeyRef != nil:
		ref := source.SecretKeyRef
		s, err := e.Sources.Secret(ctx, e.Pod.Namespace, ref.Name)
		if err != nil {
			return "", false, tolerateMissing(err, ref.Optional)
		}
		value, ok := s.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, e.Pod.Namespace, ref.Name)
		}
		return string(value), ok, nil
	case source.FileKeyRef != nil:
		value, ok, err := e.Sources.File(source.FileKeyRef)
		if err != nil {
			return "", false, err
		}
		if !ok && !isTrue(source.FileKeyRef.Optional) {
			return "", false, fmt.Errorf("environment variable key %q not found in file %q", source.FileKeyRef.Key, source.FileKeyRef.Path)
		}
		return value, ok, nil
	}
	return "", true, nil
}

func tolerateMissing(err error, optional *bool) error {
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil
	}
	return err
}

func isTrue(b *bool) bool { return b != nil && *b }

// serviceVariables are the addresses of the namespace's services and of the API server's.
func (e Environment) serviceVariables() map[string]string {
	out := map[string]string{}
	if e.Sources.Services == nil {
		return out
	}
	const api = "kubernetes"
	for _, s := range e.Sources.Services(corev1.NamespaceDefault) {
		if s.Name == api {
			addServiceVariables(out, s)
		}
	}
	if e.Pod.Spec.EnableServiceLinks != nil && !*e.Pod.Spec.EnableServiceLinks {
		return out
	}
	for _, s := range e.Sources.Services(e.Pod.Namespace) {
		addServiceVariables(out, s)
	}
	return out
}

func addServiceVariables(out map[string]string, s *corev1.Service) {
	ip := s.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	upper := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
	prefix := upper(s.Name)
	out[prefix+"_SERVICE_HOST"] = ip
	out[prefix+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		number := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			out[prefix+"_SERVICE_PORT_"+upper(p.Name)] = number
		}
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = string(corev1.ProtocolTCP)
		}
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(ip, number)
		if i == 0 {
			out[prefix+"_PORT"] = url
		}
		link := prefix + "_PORT_" + number + "_" + strings.ToUpper(protocol)
		out[link], out[link+"_PROTO"], out[link+"_PORT"], out[link+"_ADDR"] = url, strings.ToLower(protocol), number, ip
	}
}
