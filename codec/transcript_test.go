// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/codec"
)

// busyPod has a bit of everything.
func busyPod() *corev1.Pod {
	p := pod()
	p.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0))
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", Time: &metav1.Time{}, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec": {}}`)}}, {}}
	p.Labels["<"], p.Annotations = "\xff\u2028", map[string]string{"": ""}
	p.Spec.TerminationGracePeriodSeconds, p.Spec.EnableServiceLinks = new(int64(-1)), new(false)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroups: []int64{0, -5, 1 << 40}}
	p.Spec.Volumes = []corev1.Volume{{Name: "v"}, {Name: "w", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("1.5Gi"))}}}}
	c := &p.Spec.Containers[0]
	c.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("64Mi"), "cpu": resource.MustParse("0.1")}
	c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: -1}}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("http")}}}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(-3)}}}
	return p
}

func TestStoredObjectsAreTranscribed(t *testing.T) {
	stored, err := codec.Marshal(busyPod(), codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := codec.StoredMessage(stored, 1234)
	if !ok {
		t.Fatal("the message is not found")
	}
	p := new(corev1.Pod)
	if err := codec.DecodeStored(stored, p); err != nil {
		t.Fatal(err)
	}
	p.ResourceVersion = "1234"
	want, err := codec.AppendJSON([]byte("before"), p)
	if err != nil {
		t.Fatal(err)
	}
	transcriber := codec.NewTranscriber(p, podKind)
	for range 2 {
		if got, ok := transcriber.AppendJSON([]byte("before"), m); !ok || !bytes.Equal(got, want) {
			t.Errorf("AppendJSON() = %s, %v, want %s", got, ok, want)
		}
	}
}

func TestOnlyWhatIsAsItIsWrittenIsTranscribed(t *testing.T) {
	raw, err := codec.Raw(busyPod())
	if err != nil {
		t.Fatal(err)
	}
	transcriber := codec.NewTranscriber(new(corev1.Pod), podKind)
	transcribed := func(raw []byte) bool {
		_, ok := transcriber.AppendJSON(nil, codec.NewMessage(raw))
		return ok
	}
	if !transcribed(raw) {
		t.Error("a message as it is written is not transcribed")
	}
	for name, raw := range map[string][]byte{
		"an unknown field":       codec.AppendBytes(slices.Clone(raw), 15, nil),
		"a field twice":          codec.AppendBytes(slices.Clone(raw), 3, nil),
		"fields out of order":    codec.AppendBytes(codec.AppendBytes(nil, 3, nil), 1, nil),
		"another type of field":  {1 << 3, 0},
		"an unknown type":        {1<<3 | 5, 0, 0, 0, 0},
		"keys out of order":      codec.AppendBytes(nil, 1, append(codec.AppendBytes(nil, 11, []byte("\x0a\x01b\x12\x00")), codec.AppendBytes(nil, 11, []byte("\x0a\x01a\x12\x00"))...)),
		"a key that has a tail":  codec.AppendBytes(nil, 1, codec.AppendBytes(nil, 11, []byte("\x0a\x01b\x12\x00\x12\x00"))),
		"a port of unknown type": codec.AppendBytes(nil, 2, codec.AppendBytes(nil, 2, codec.AppendBytes(nil, 10, codec.AppendBytes(nil, 1, codec.AppendBytes(nil, 2, []byte("\x12\x02\x08\x09")))))),
		"managed fields of text": codec.AppendBytes(nil, 1, codec.AppendBytes(nil, 17, codec.AppendBytes(nil, 7, codec.AppendBytes(nil, 1, []byte("text"))))),
	} {
		if transcribed(raw) {
			t.Errorf("a message with %s is transcribed", name)
		}
	}
	for n := range raw {
		transcribed(raw[:n]) // It does not matter what comes of it.
	}
}

func BenchmarkTranscript(b *testing.B) {
	raw, err := codec.Raw(busyPod())
	if err != nil {
		b.Fatal(err)
	}
	transcriber, to := codec.NewTranscriber(new(corev1.Pod), podKind), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		to, _ = transcriber.AppendJSON(to[:0], codec.NewMessage(raw))
	}
}

func TestMarksAreThoseOfLabels(t *testing.T) {
	p := pod()
	p.Labels = map[string]string{"a": "b", "none": "", "long": "value"}
	stored, err := codec.Marshal(p, codec.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := codec.StoredMessage(stored, 7)
	var want uint64
	for label, value := range p.Labels {
		want |= codec.LabelMark(label, value)
	}
	if got := m.Labels().Marks(); got != want || got&3 != 0 {
		t.Errorf("Marks() = %x, want %x", got, want)
	}
	different := map[uint64]bool{}
	for i := range 26 {
		different[codec.LabelMark("app", string(rune('a'+i)))] = true
	}
	if len(different) < 13 || codec.LabelMark("a", "bc") == codec.LabelMark("ab", "c") {
		t.Errorf("26 labels have %d marks", len(different))
	}
}
