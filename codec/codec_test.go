// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"kogge.dev/kogge/codec"
)

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

func pod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", Labels: map[string]string{"a": "b"}}}
	p.SetGroupVersionKind(podKind)
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Args: []string{"x", "y"}}}
	return p
}

func TestObjectsSurviveEveryFormat(t *testing.T) {
	for _, format := range codec.Formats {
		data, err := codec.Marshal(pod(), format)
		if err != nil {
			t.Fatal(err)
		}
		got := &corev1.Pod{}
		gvk, unknown, err := codec.Decode(data, format, got, codec.Strict, schema.GroupVersionKind{})
		if err != nil || len(unknown) > 0 || gvk != podKind {
			t.Errorf("Decode(%s) = %v, %v, %v", format, gvk, unknown, err)
		}
		got.SetGroupVersionKind(gvk)
		if diff := cmp.Diff(pod(), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestEnvelopesAreThoseOfAPIMachinery(t *testing.T) {
	var want bytes.Buffer
	scheme := runtime.NewScheme()
	if err := protobuf.NewSerializer(scheme, scheme).Encode(pod(), &want); err != nil {
		t.Fatal(err)
	}
	whole, err := codec.Marshal(pod(), codec.Protobuf)
	if err != nil || !bytes.Equal(whole, want.Bytes()) {
		t.Errorf("Marshal() = %q, %v; want %q", whole, err, want.Bytes())
	}
	raw, err := codec.Raw(pod())
	if err != nil {
		t.Fatal(err)
	}
	if got := codec.Wrap(podKind, codec.NewMessage(raw)); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("Wrap() = %q, want %q", got, want.Bytes())
	}
}

func TestStoredMessagesAreThoseOfTheirObjects(t *testing.T) {
	p := pod()
	p.Annotations = map[string]string{"long": strings.Repeat("x", 500), "none": "b"}
	p.Labels["empty"] = ""
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds, p.Generation = &metav1.Time{Time: time.Unix(1e9, 0)}, new(int64(300)), 1<<40
	stored, err := codec.Marshal(p, codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{"1", "9", "10", "1234567890123456789"} {
		p.ResourceVersion = revision
		want, err := codec.Raw(p)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(revision, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		m, ok := codec.StoredMessage(stored, n)
		if got := m.AppendTo(nil); !ok || !bytes.Equal(got, want) || m.Size() != len(want) || !m.Is(p) {
			t.Errorf("StoredMessage() = %q of size %d, %v, want %q", got, m.Size(), ok, want)
		}
		for _, label := range []string{"a", "empty", "none"} {
			want, has := p.Labels[label]
			if got, ok := m.Labels().Lookup(label); got != want || ok != has || m.Labels().Has(label) != has || m.Labels().Get(label) != want {
				t.Errorf("label %s = %q, %v, want %q, %v", label, got, ok, want, has)
			}
		}
		q := p.DeepCopy()
		q.Spec.Containers[0].Image = "j"
		if m.Is(q) {
			t.Error("the message is taken for that of an object with another image")
		}
	}
	versioned, err := codec.Marshal(p, codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	p.ResourceVersion, p.Labels = "", nil
	bare, err := codec.Marshal(p, codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := codec.StoredMessage(bare, 1); !ok || m.Labels().Has("none") {
		t.Error("an annotation is taken for a label")
	}
	if _, ok := codec.StoredMessage(versioned, 1); ok {
		t.Error("a value with a resourceVersion has two then")
	}
	for n := range stored {
		if m, ok := codec.StoredMessage(stored[:n], 1); ok && n < len(stored)-4 {
			t.Errorf("the first %d bytes are taken for a message of %d", n, m.Size())
		}
	}
}

// TestOddEnvelopes says the same of envelopes that no encoder makes as apimachinery does.
func TestOddEnvelopes(t *testing.T) {
	whole, err := codec.Marshal(pod(), codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	with := func(more ...byte) []byte { return append(bytes.Clone(whole), more...) }
	for name, data := range map[string][]byte{
		"whole": whole, "cut": whole[:len(whole)-5], "cut in the type": whole[:7], "unknown field": with(9<<3|2, 1, 'x'),
		"unknown number": with(9<<3, 1), "no field": with(0, 1), "too long": with(2<<3|2, 200), "endless": with(2<<3|2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1),
		"second message": with(2<<3|2, 0), "second type": with(1<<3|2, 4, 2<<3|2, 2, 'P', 'q'), "bad type": with(1<<3|2, 1, 7),
	} {
		got, err := codec.TypeOf(data)
		var u runtime.Unknown
		wantErr := u.Unmarshal(data[4:])
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || err == nil && got != u.GroupVersionKind() {
			t.Errorf("%s: TypeOf = %v, %v; want %v, %v", name, got, err, u.GroupVersionKind(), wantErr)
		}
		var into, want corev1.Pod
		_, _, err = codec.Decode(data, codec.Protobuf, &into, codec.Lenient, podKind)
		if wantErr == nil {
			wantErr = want.Unmarshal(u.Raw)
		}
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || err == nil && cmp.Diff(want, into) != "" {
			t.Errorf("%s: Decode = %v, want %v", name, err, wantErr)
		}
	}
}

// TestTheTypeIsWhatTheDataSays, whatever else is in it.
func TestTheTypeIsWhatTheDataSays(t *testing.T) {
	other := schema.GroupVersionKind{Group: "g", Version: "v2", Kind: "Other"}
	for _, c := range []struct{ body, kind, err string }{
		{`{"kind":"Pod","apiVersion":"v1"}`, "/v1, Kind=Pod", ""},
		{`{"kind":"Foo","apiVersion":"a/v3","spec":{}}`, "a/v3, Kind=Foo", ""},
		{`{"kind":"Foo"}`, "g/v2, Kind=Foo", ""},
		{`{"apiVersion":"a/v3"}`, "a/v3, Kind=Other", ""},
		{`{}`, "g/v2, Kind=Other", ""},
		{`{"kind":null,"apiVersion":null}`, "g/v2, Kind=Other", ""},
		{`{"kind":"Foo","apiVersion":"a/b/c"}`, "", "unexpected GroupVersion string: a/b/c"},
		{`{"kind":5}`, "", "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string"},
		{`{"kind":"Foo","apiVersion":"a/v3","spec":5}`, "a/v3, Kind=Foo", "json: cannot unmarshal number into Go struct field Pod.spec of type v1.PodSpec"},
		{`{"spec":{}`, "", "couldn't get version/kind; json parse error: unexpected end of JSON input"},
	} {
		into := pod()
		gvk, _, err := codec.Decode([]byte(c.body), codec.JSON, into, codec.Strict, other)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != c.err || c.kind != "" && gvk.String() != c.kind {
			t.Errorf("Decode(%s) = %v, %q; want %v, %q", c.body, gvk, text, c.kind, c.err)
		}
	}
}

func TestStoredTextsAreReadWithoutDecoding(t *testing.T) {
	p := pod()
	p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	p.Spec.ActiveDeadlineSeconds = new(int64(1 << 40))
	p.Status.NominatedNodeName = "other"
	for _, node := range []string{"", "n1"} {
		p.Spec.NodeName = node
		stored, err := codec.Marshal(p, codec.Protobuf)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := codec.StoredText(stored, 2, 10); got != node || !ok {
			t.Errorf("StoredText() = %q, %v, want %q", got, ok, node)
		}
		for n := range stored {
			if got, ok := codec.StoredText(stored[:n], 2, 10); ok && got != node {
				t.Errorf("StoredText() of the first %d bytes = %q", n, got)
			}
		}
	}
	if _, ok := codec.StoredText([]byte(`{"kind":"Pod"}`), 2, 10); ok {
		t.Error("StoredText() of JSON = _, true")
	}
}

// TestStoredWithout leaves a field out, wherever it is, and nothing else.
func TestStoredWithout(t *testing.T) {
	structure := &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}}
	definition := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "tabs.example.com", Labels: map[string]string{"a": "b"}, Generation: 1 << 40},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "tabs"}, PreserveUnknownFields: true,
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Schema: structure, Deprecated: true}, {Name: "v2"}, {Name: "v3", Schema: structure}},
		},
		Status: apiextensionsv1.CustomResourceDefinitionStatus{StoredVersions: []string{"v1"}},
	}
	definition.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	stored, err := codec.Marshal(definition, codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	without, ok := codec.StoredWithout(stored, 2, 7, 4)
	got := &apiextensionsv1.CustomResourceDefinition{}
	if err := codec.DecodeStored(without, got); err != nil || !ok {
		t.Fatalf("decode what StoredWithout() returned: %v, %v", err, ok)
	}
	for i := range definition.Spec.Versions {
		definition.Spec.Versions[i].Schema = nil
	}
	if diff := cmp.Diff(definition, got); diff != "" {
		t.Errorf("without the field (-want +got):\n%s", diff)
	}
	for n := range stored {
		if _, ok := codec.StoredWithout(stored[:n], 2, 7, 4); ok && n < len(stored)-len(codec.EnvelopeEnd) {
			t.Errorf("StoredWithout() of the first %d of %d bytes = _, true", n, len(stored))
		}
	}
	if _, ok := codec.StoredWithout([]byte(`{"kind":"CustomResourceDefinition"}`), 2, 7, 4); ok {
		t.Error("StoredWithout() of JSON = _, true")
	}
}

func TestStrictDecodingNamesFields(t *testing.T) {
	tests := []struct{ name, format, body, want string }{
		{"unknown field", "application/json", `{"kind":"Pod","apiVersion":"v1","spec":{"bogus":1}}`, `unknown field "spec.bogus"`},
		{"case matters", "application/json", `{"kind":"Pod","apiVersion":"v1","Spec":{}}`, `unknown field "Spec"`},
		{"duplicate field", "application/json", `{"kind":"Pod","apiVersion":"v1","kind":"Pod"}`, `duplicate field "kind"`},
		{"duplicate key in YAML", "application/yaml", "kind: Pod\napiVersion: v1\nkind: Pod\n", `key "kind" already set in map`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, found, err := codec.Decode([]byte(tt.body), codec.Format(tt.format), &corev1.Pod{}, codec.Strict, schema.GroupVersionKind{})
			if err != nil || len(found) != 1 || !strings.Contains(found[0].Error(), tt.want) {
				t.Errorf("Decode() = %v, %v; want %q", found, err, tt.want)
			}
			_, found, err = codec.Decode([]byte(tt.body), codec.Format(tt.format), &corev1.Pod{}, codec.Lenient, schema.GroupVersionKind{})
			if err != nil || len(found) > 0 {
				t.Errorf("lenient Decode() = %v, %v", found, err)
			}
		})
	}
}

func TestTheTypeIsCompleted(t *testing.T) {
	tests := []struct {
		body string
		want schema.GroupVersionKind
	}{
		{`{}`, podKind},
		{`{"kind":"Other"}`, corev1.SchemeGroupVersion.WithKind("Other")},
		{`{"apiVersion":"apps/v1"}`, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Pod"}},
	}
	for _, tt := range tests {
		got, _, err := codec.Decode([]byte(tt.body), codec.JSON, &corev1.Pod{}, codec.Lenient, podKind)
		if err != nil || got != tt.want {
			t.Errorf("Decode(%s) = %v, %v; want %v", tt.body, got, err, tt.want)
		}
	}
}

func TestAccept(t *testing.T) {
	tests := []struct {
		header string
		want   codec.Accepted
		ok     bool
	}{
		{"", codec.Accepted{Format: codec.JSON}, true},
		{"*/*", codec.Accepted{Format: codec.JSON}, true},
		{"application/*", codec.Accepted{Format: codec.JSON}, true},
		{"application/yaml, application/json", codec.Accepted{Format: codec.YAML}, true},
		{"application/json;q=0.5, application/vnd.kubernetes.protobuf", codec.Accepted{Format: codec.Protobuf}, true},
		{"application/json;as=Table;v=v1;g=meta.k8s.io, application/json", codec.Accepted{Format: codec.JSON, As: "Table", GroupVersion: metav1.SchemeGroupVersion}, true},
		{"application/json;as=Table;v=v9;g=meta.k8s.io, application/json", codec.Accepted{Format: codec.JSON}, true},
		{"application/json;as=Table;v=v9;g=meta.k8s.io", codec.Accepted{}, false},
		{"application/json;stream=watch, application/json", codec.Accepted{Format: codec.JSON}, true},
		{"text/html", codec.Accepted{}, false},
		{";;;,,", codec.Accepted{}, false},
		{"APPLICATION/JSON", codec.Accepted{}, false},
		{"*/json", codec.Accepted{}, false},
		{"application/json/x", codec.Accepted{}, false},
		{"application/json;v=v1", codec.Accepted{}, false},
		{"application/json;stream=foo, application/yaml", codec.Accepted{Format: codec.YAML}, true},
		{"application/yaml;stream=watch", codec.Accepted{}, false},
		{"application/json;q=x, application/yaml;q=0.1", codec.Accepted{Format: codec.YAML}, true},
		{"application/json;q=0", codec.Accepted{Format: codec.JSON}, true},
		{"*/*, application/yaml;q=0.5", codec.Accepted{Format: codec.YAML}, true},
		{"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io, application/json;pretty=1", codec.Accepted{Format: codec.JSON, Pretty: true}, true},
	}
	for _, tt := range tests {
		got, ok := codec.Accept(tt.header, codec.Formats, codec.MetaProjection)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("Accept(%q) = %+v, %v; want %+v, %v", tt.header, got, ok, tt.want, tt.ok)
		}
	}
}

func TestProduces(t *testing.T) {
	types := []string{"application/json", "application/yaml"}
	for header, want := range map[string]bool{
		"": true, "*/*": true, "text/html, */*;q=0.1": true, "application/yaml;as=X": true, "application/*": false, "APPLICATION/JSON": false, "text/html": false,
	} {
		if got := codec.Produces(header, types); got != want {
			t.Errorf("Produces(%q) = %v, want %v", header, got, want)
		}
	}
	for header, want := range map[string]string{"": "application/json", "*/*": "application/json", "application/*": "application/json", "application/yaml, */*": "application/yaml", "text/html": ""} {
		if got, ok := codec.Media(header, types); got != want || ok != (want != "") {
			t.Errorf("Media(%q) = %q, %v, want %q", header, got, ok, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, format := range codec.Formats {
		data, err := codec.Marshal(pod(), format)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(format), data)
	}
	f.Fuzz(func(t *testing.T, format string, data []byte) {
		obj := &corev1.Pod{}
		gvk, _, err := codec.Decode(data, codec.Format(format), obj, codec.Strict, podKind)
		if err != nil || gvk != podKind {
			return
		}
		obj.SetGroupVersionKind(gvk)
		if _, err := codec.Marshal(obj, codec.Protobuf); err != nil {
			t.Errorf("decoded from %q, but: %v", data, err)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add("application/json;as=Table;v=v1;g=meta.k8s.io,*/*;q=0.1")
	f.Fuzz(func(t *testing.T, header string) {
		if a, ok := codec.Accept(header, codec.Formats, codec.MetaProjection); ok && a.Format == "" {
			t.Errorf("Accept(%q) accepts nothing", header)
		}
	})
}
