// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podautoscaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"kogge.dev/kogge/client"
)

// usualWindow is the time over which a sample was taken if its source does not say.
const usualWindow = time.Minute

// sources reads metrics through the API server: metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io.
type sources struct{ client *client.Client }

// value is what the custom and external metrics APIs say, in all their versions.
type value struct {
	DescribedObject corev1.ObjectReference `json:"describedObject"`
	Timestamp       metav1.Time            `json:"timestamp"`
	WindowSeconds   *int64                 `json:"windowSeconds"`
	Value           resource.Quantity      `json:"value"`
}

func (s sources) read(ctx context.Context, path string, query url.Values, into any) error {
	data, err := s.client.Read(ctx, path, query)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// resource reads the use of CPU or memory by pod; of one container if its name is not empty.
func (s sources) resource(ctx context.Context, namespace string, selector labels.Selector, name corev1.ResourceName, container string) (map[string]sample, error) {
	var list metricsv1beta1.PodMetricsList
	path := "/apis/metrics.k8s.io/v1beta1/namespaces/" + namespace + "/pods"
	if err := s.read(ctx, path, url.Values{"labelSelector": {selector.String()}}, &list); err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	out := map[string]sample{}
	for i := range list.Items {
		m := &list.Items[i]
		total, complete := int64(0), false
		for _, c := range m.Containers {
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Usage[name]
			if complete = ok; !ok {
				break
			}
			total += q.MilliValue()
		}
		if complete {
			out[m.Name] = sample{at: m.Timestamp.Time, window: m.Window.Duration, milli: total}
		}
	}
	return out, nil
}

// custom reads from either version of the custom metrics API.
func (s sources) custom(ctx context.Context, path string, query url.Values) ([]value, error) {
	var list struct {
		Items []value `json:"items"`
	}
	err := s.read(ctx, "/apis/custom.metrics.k8s.io/v1beta2"+path, query, &list)
	if apierrors.IsNotFound(err) {
		err = s.read(ctx, "/apis/custom.metrics.k8s.io/v1beta1"+path, query, &list)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	case len(list.Items) == 0:
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	return list.Items, nil
}

// pods reads a metric of every pod that a selector matches.
func (s sources) pods(ctx context.Context, namespace, metric string, selector, of labels.Selector) (map[string]sample, error) {
	values, err := s.custom(ctx, "/namespaces/"+namespace+"/pods/*/"+url.PathEscape(metric), url.Values{
		"labelSelector": {selector.String()}, "metricLabelSelector": {of.String()},
	})
	if err != nil {
		return nil, err
	}
	out := map[string]sample{}
	for _, v := range values {
		window := usualWindow
		if v.WindowSeconds != nil {
			window = time.Duration(*v.WindowSeconds) * time.Second
		}
		out[v.DescribedObject.Name] = sample{at: v.Timestamp.Time, window: window, milli: v.Value.MilliValue()}
	}
	return out, nil
}

// object reads a metric of one object, in thousandths.
func (s sources) object(ctx context.Context, namespace, metric string, gr schema.GroupResource, name string, of labels.Selector) (int64, error) {
	path := "/namespaces/" + namespace + "/" + gr.String() + "/" + name + "/" + url.PathEscape(metric)
	if gr == (schema.GroupResource{Resource: "namespaces"}) {
		path = "/namespaces/" + namespace + "/metrics/" + url.PathEscape(metric) // only its own: a reference must not lead elsewhere
	}
	values, err := s.custom(ctx, path, url.Values{"metricLabelSelector": {of.String()}})
	if err != nil {
		return 0, err
	}
	return values[0].Value.MilliValue(), nil
}

// external reads the sum of a metric of things outside the cluster, in thousandths.
func (s sources) external(ctx context.Context, namespace, metric string, of labels.Selector) (int64, error) {
	var list struct {
		Items []value `json:"items"`
	}
	path := "/apis/external.metrics.k8s.io/v1beta1/namespaces/" + namespace + "/" + url.PathEscape(metric)
	if err := s.read(ctx, path, url.Values{"labelSelector": {of.String()}}, &list); err != nil {
		return 0, fmt.Errorf("unable to fetch metrics from external metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return 0, errors.New("no metrics returned from external metrics API")
	}
	total := int64(0)
	for _, v := range list.Items {
		milli := v.Value.MilliValue()
		if milli > 0 && total > math.MaxInt64-milli {
			return math.MaxInt64, nil
		}
		total += milli
	}
	return total, nil
}
