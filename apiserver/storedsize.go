// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/rest"
)

// storedSize has the metrics of how much of each resource is stored, under kube-apiserver's names.
type storedSize struct{ engine *rest.Engine }

var (
	storedObjects  = prometheus.NewDesc("apiserver_resource_objects", "Number of stored objects.", []string{"group", "resource"}, nil)
	storedBytes    = prometheus.NewDesc("apiserver_resource_size_estimate_bytes", "Sum of the sizes of stored objects.", []string{"group", "resource"}, nil)
	storageObjects = prometheus.NewDesc("apiserver_storage_objects", "Number of stored objects, under the name of old.", []string{"resource"}, nil)
)

// Describe implements prometheus.Collector.
func (storedSize) Describe(ch chan<- *prometheus.Desc) {
	ch <- storedObjects
	ch <- storedBytes
	ch <- storageObjects
}

// Collect implements prometheus.Collector.
func (s storedSize) Collect(ch chan<- prometheus.Metric) {
	s.engine.Sizes(func(gr schema.GroupResource, objects int, bytes int64) {
		ch <- prometheus.MustNewConstMetric(storedObjects, prometheus.GaugeValue, float64(objects), gr.Group, gr.Resource)
		ch <- prometheus.MustNewConstMetric(storedBytes, prometheus.GaugeValue, float64(bytes), gr.Group, gr.Resource)
		ch <- prometheus.MustNewConstMetric(storageObjects, prometheus.GaugeValue, float64(objects), gr.String())
	})
}
