// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// codecs writes answers in the format that the client prefers.
type codecs struct {
	scheme *runtime.Scheme
	json   *jsonserializer.Serializer
	proto  *protobuf.Serializer
}

func newCodecs() codecs {
	scheme := runtime.NewScheme()
	utilruntime.Must(v1beta1.AddToScheme(scheme))
	metav1.AddToGroupVersion(scheme, v1beta1.SchemeGroupVersion)
	return codecs{
		scheme: scheme, proto: protobuf.NewSerializer(scheme, scheme),
		json: jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, scheme, scheme, jsonserializer.SerializerOptions{}),
	}
}

// format is one of the ways to write an answer.
type format int

const (
	asJSON format = iota
	asTable
	asProtobuf
)

// negotiate picks the first format of the Accept header that can be written.
func negotiate(accept string) (format, bool) {
	if accept == "" {
		return asJSON, true
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		table := strings.Contains(params, "as=Table") && strings.Contains(params, "g=meta.k8s.io") && strings.Contains(params, "v=v1") &&
			!strings.Contains(params, "v=v1beta1")
		other := strings.Contains(params, "as=") && !table
		switch strings.TrimSpace(media) {
		case "application/json", "application/*", "*/*":
			if table {
				return asTable, true
			}
			if !other {
				return asJSON, true
			}
		case "application/vnd.kubernetes.protobuf":
			if !table && !other {
				return asProtobuf, true
			}
		}
	}
	return asJSON, false
}

// write sends an object. Discovery documents are always JSON.
func (c codecs) write(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object) {
	how, ok := negotiate(r.Header.Get("Accept"))
	if !ok {
		how, code = asJSON, http.StatusNotAcceptable
		obj = &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
			Message: "only the following media types are accepted: application/json, application/vnd.kubernetes.protobuf",
		}
	}
	body, media, err := c.encode(obj, how)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	// The client is gone if this fails; there is nobody to tell.
	_, _ = w.Write(body)
}

func (c codecs) encode(obj runtime.Object, how format) (body []byte, media string, err error) {
	const jsonMedia, protoMedia = "application/json", "application/vnd.kubernetes.protobuf"
	switch o := obj.(type) {
	case *metav1.APIGroup, *metav1.APIResourceList:
		body, err = json.Marshal(obj)
		return body, jsonMedia, err
	case *metav1.Status:
		o.Kind, o.APIVersion = "Status", "v1"
	default:
		if how == asTable {
			if obj, err = tableOf(obj); err != nil {
				return nil, "", err
			}
			body, err = json.Marshal(obj)
			return body, jsonMedia, err
		}
		gvks, _, err := c.scheme.ObjectKinds(obj)
		if err != nil {
			return nil, "", fmt.Errorf("encode %T: %w", obj, err)
		}
		obj.GetObjectKind().SetGroupVersionKind(gvks[0])
	}
	var b strings.Builder
	if how == asProtobuf {
		err = c.proto.Encode(obj, &b)
		return []byte(b.String()), protoMedia, err
	}
	err = c.json.Encode(obj, &b)
	return []byte(b.String()), jsonMedia, err
}

func (c codecs) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	s := status.Status()
	c.write(w, r, int(s.Code), &s)
}

// tableOf renders metrics for kubectl get.
func tableOf(obj runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
			{Name: "cpu", Type: "string", Format: "quantity", Description: "Use of CPU over the window."},
			{Name: "memory", Type: "string", Format: "quantity", Description: "Working set at the end of the window."},
			{Name: "Window", Type: "string", Format: "duration", Description: "Time over which use was measured."},
		},
		Rows: []metav1.TableRow{},
	}
	switch o := obj.(type) {
	case *v1beta1.NodeMetrics:
		out.Rows = append(out.Rows, nodeRow(o))
	case *v1beta1.NodeMetricsList:
		for i := range o.Items {
			out.Rows = append(out.Rows, nodeRow(&o.Items[i]))
		}
	case *v1beta1.PodMetrics:
		out.Rows = append(out.Rows, podRow(o))
	case *v1beta1.PodMetricsList:
		for i := range o.Items {
			out.Rows = append(out.Rows, podRow(&o.Items[i]))
		}
	default:
		return nil, fmt.Errorf("no table of %T", obj)
	}
	return out, nil
}

func partial(meta metav1.ObjectMeta) runtime.RawExtension {
	return runtime.RawExtension{Object: &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"}, ObjectMeta: meta,
	}}
}

func nodeRow(n *v1beta1.NodeMetrics) metav1.TableRow {
	return metav1.TableRow{
		Cells:  []any{n.Name, n.Usage.Cpu().String(), n.Usage.Memory().String(), n.Window.Duration.String()},
		Object: partial(n.ObjectMeta),
	}
}

func podRow(p *v1beta1.PodMetrics) metav1.TableRow {
	cpu, memory := p.Containers[0].Usage.Cpu().DeepCopy(), p.Containers[0].Usage.Memory().DeepCopy()
	for _, c := range p.Containers[1:] {
		cpu.Add(*c.Usage.Cpu())
		memory.Add(*c.Usage.Memory())
	}
	return metav1.TableRow{Cells: []any{p.Name, cpu.String(), memory.String(), p.Window.Duration.String()}, Object: partial(p.ObjectMeta)}
}
