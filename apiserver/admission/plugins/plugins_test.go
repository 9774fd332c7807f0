// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/kinds"
)

// ask is a question about an object of a core resource, "group/resource/subresource" with group and subresource optional.
func ask(op admission.Operation, path string, obj, old runtime.Object) *admission.Attributes {
	group, rest, ok := strings.Cut(path, "/")
	if !ok || !strings.Contains(group, ".") {
		group, rest = "", path
	}
	res, sub, _ := strings.Cut(rest, "/")
	a := &admission.Attributes{Operation: op, Resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: res}, Subresource: sub, Object: obj, Old: old}
	if m := a.Meta(); m != nil {
		a.Namespace, a.Name = m.GetNamespace(), m.GetName()
	}
	return a
}

func meta(name string, change ...func(*metav1.ObjectMeta)) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: name}
	for _, f := range change {
		f(&m)
	}
	return m
}

func inNS(m *metav1.ObjectMeta) { m.Namespace = "ns" }

func note(key, value string) func(*metav1.ObjectMeta) {
	return func(m *metav1.ObjectMeta) {
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations[key] = value
	}
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("error = %v, want %q", err, want)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	live := &corev1.Namespace{ObjectMeta: meta("ns")}
	gone := &corev1.Namespace{ObjectMeta: meta("ns"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	object := &corev1.ConfigMap{ObjectMeta: meta("a", inNS)}
	for _, c := range []struct {
		name          string
		cached, fresh []kinds.Object
		a             *admission.Attributes
		want          string
	}{
		{"live", []kinds.Object{live}, nil, ask(admission.Create, "configmaps", object, nil), ""},
		{"absent", nil, nil, ask(admission.Create, "configmaps", object, nil), `namespaces "ns" not found`},
		{"not yet in the cache", nil, []kinds.Object{live}, ask(admission.Create, "configmaps", object, nil), ""},
		{"terminating", []kinds.Object{gone}, nil, ask(admission.Create, "configmaps", object, nil), `configmaps "a" is forbidden: unable to create new content in namespace ns because it is being terminated`},
		{"terminating since a moment", []kinds.Object{&corev1.Namespace{ObjectMeta: meta("ns", func(m *metav1.ObjectMeta) { m.CreationTimestamp = metav1.Now() })}}, []kinds.Object{gone}, ask(admission.Create, "configmaps", object, nil), "because it is being terminated"},
		{"updates in a terminating one", []kinds.Object{gone}, nil, ask(admission.Update, "configmaps", object, object), ""},
		{"deletes in an absent one", nil, nil, ask(admission.Delete, "configmaps", nil, object), ""},
		{"deleting default", nil, nil, func() *admission.Attributes {
			a := ask(admission.Delete, "namespaces", nil, nil)
			a.Name = "default"
			return a
		}(), `namespaces "default" is forbidden: this namespace may not be deleted`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := admissiontest.NewReader(c.cached...)
			r.PutFresh(c.fresh...)
			err := namespaceLifecycle{r}.Admit(t.Context(), c.a)
			check(t, err, c.want)
			if strings.Contains(c.want, "terminated") && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				t.Error("the refusal has no cause that controllers understand")
			}
		})
	}
}

func TestServiceAccountWaitsForTheDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := admissiontest.NewReader()
		go func() {
			time.Sleep(300 * time.Millisecond)
			r.Put(&corev1.ServiceAccount{ObjectMeta: meta("default", inNS), ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}})
		}()
		pod := &corev1.Pod{ObjectMeta: meta("p", inNS), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
		check(t, serviceAccount{r}.Admit(t.Context(), ask(admission.Create, "pods", pod, nil)), "")
		if pod.Spec.ImagePullSecrets[0].Name != "pull" || pod.Spec.DeprecatedServiceAccount != "default" {
			t.Errorf("pod = %+v", pod.Spec)
		}
		other := &corev1.Pod{ObjectMeta: meta("p", inNS), Spec: corev1.PodSpec{ServiceAccountName: "none"}}
		check(t, serviceAccount{r}.Admit(t.Context(), ask(admission.Create, "pods", other, nil)), `error looking up service account ns/none: serviceaccount "none" not found`)
	})
}

func TestServiceAccountMounts(t *testing.T) {
	account := func(change func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
		sa := &corev1.ServiceAccount{ObjectMeta: meta("default", inNS)}
		if change != nil {
			change(sa)
		}
		return sa
	}
	own := corev1.Container{Name: "own", VolumeMounts: []corev1.VolumeMount{{Name: "mine", MountPath: tokenMountPath}}}
	for _, c := range []struct {
		name    string
		account *corev1.ServiceAccount
		spec    corev1.PodSpec
		volumes int
	}{
		{"usually", account(nil), corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}, 1},
		{"pod says no", account(nil), corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "a"}}}, 0},
		{"account says no", account(func(s *corev1.ServiceAccount) { s.AutomountServiceAccountToken = new(false) }), corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}, 0},
		{"pod wins over account", account(func(s *corev1.ServiceAccount) { s.AutomountServiceAccountToken = new(false) }), corev1.PodSpec{AutomountServiceAccountToken: new(true), Containers: []corev1.Container{{Name: "a"}}}, 1},
		{"every container has its own", account(nil), corev1.PodSpec{Containers: []corev1.Container{own}}, 0},
		{"one container has its own", account(nil), corev1.PodSpec{Containers: []corev1.Container{own, {Name: "b"}}}, 1},
		{"the volume is there", account(nil), corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}, Volumes: []corev1.Volume{{Name: "kube-api-access-x"}}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: meta("p", inNS), Spec: c.spec}
			check(t, serviceAccount{admissiontest.NewReader(c.account)}.Admit(t.Context(), ask(admission.Create, "pods", pod, nil)), "")
			if len(pod.Spec.Volumes) != c.volumes {
				t.Errorf("volumes = %v, want %d", pod.Spec.Volumes, c.volumes)
			}
			if c.volumes == 1 && pod.Spec.Containers[len(pod.Spec.Containers)-1].VolumeMounts[0].Name != pod.Spec.Volumes[0].Name {
				t.Errorf("mounts = %v", pod.Spec.Containers)
			}
		})
	}
	mirror := &corev1.Pod{ObjectMeta: meta("p", inNS, note(corev1.MirrorPodAnnotationKey, "x")), Spec: corev1.PodSpec{ServiceAccountName: "default"}}
	check(t, serviceAccount{admissiontest.NewReader()}.Admit(t.Context(), ask(admission.Create, "pods", mirror, nil)), "a mirror pod may not reference service accounts")
	enforced := account(func(s *corev1.ServiceAccount) { s.Annotations = map[string]string{enforceSecretsNote: "true"} })
	uses := &corev1.Pod{ObjectMeta: meta("p", inNS), Spec: corev1.PodSpec{ServiceAccountName: "default", Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}}}
	check(t, serviceAccount{admissiontest.NewReader(enforced)}.Validate(t.Context(), ask(admission.Create, "pods", uses, nil)), `volume with secret.secretName="s" is not allowed because service account default does not reference that secret`)
}

func TestPriority(t *testing.T) {
	r := admissiontest.NewReader(
		&schedulingv1.PriorityClass{ObjectMeta: meta("high"), Value: 100, PreemptionPolicy: new(corev1.PreemptNever)},
		&schedulingv1.PriorityClass{ObjectMeta: meta("usual"), Value: 7, GlobalDefault: true},
	)
	p := priority{r}
	plain := &corev1.Pod{ObjectMeta: meta("p", inNS)}
	check(t, p.Admit(t.Context(), ask(admission.Create, "pods", plain, nil)), "")
	if plain.Spec.PriorityClassName != "usual" || *plain.Spec.Priority != 7 {
		t.Errorf("spec = %+v", plain.Spec)
	}
	high := &corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: "high"}}
	check(t, p.Admit(t.Context(), ask(admission.Create, "pods", high, nil)), "")
	if *high.Spec.Priority != 100 || *high.Spec.PreemptionPolicy != corev1.PreemptNever {
		t.Errorf("spec = %+v", high.Spec)
	}
	wrong := &corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: "high", Priority: new(int32(5))}}
	check(t, p.Admit(t.Context(), ask(admission.Create, "pods", wrong, nil)), "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 100 from the given PriorityClass name")
	second := &schedulingv1.PriorityClass{ObjectMeta: meta("second"), GlobalDefault: true}
	check(t, p.Validate(t.Context(), ask(admission.Create, "scheduling.k8s.io/priorityclasses", second, nil)), "PriorityClass usual is already marked as default. Only one default can exist")
}

func TestTolerations(t *testing.T) {
	always := corev1.Toleration{Operator: corev1.TolerationOpExists}
	mine := corev1.Toleration{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(5))}
	for name, c := range map[string]struct {
		have []corev1.Toleration
		want int
	}{"none": {nil, 2}, "everything tolerated": {[]corev1.Toleration{always}, 1}, "own": {[]corev1.Toleration{mine}, 2}, "another effect": {[]corev1.Toleration{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}, 3}} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.have}}
		for range 2 { // a second pass adds nothing
			check(t, defaultTolerations{}.Admit(t.Context(), ask(admission.Create, "pods", pod, nil)), "")
		}
		if len(pod.Spec.Tolerations) != c.want {
			t.Errorf("%s: tolerations = %v, want %d", name, pod.Spec.Tolerations, c.want)
		}
	}
}

func TestStorage(t *testing.T) {
	at := func(second int64) func(*metav1.ObjectMeta) {
		return func(m *metav1.ObjectMeta) { m.CreationTimestamp = metav1.Unix(second, 0) }
	}
	r := admissiontest.NewReader(
		&storagev1.StorageClass{ObjectMeta: meta("old", at(1), note(defaultClassNote, "true"))},
		&storagev1.StorageClass{ObjectMeta: meta("new", at(2), note(defaultClassNote, "true")), AllowVolumeExpansion: new(true)},
		&storagev1.StorageClass{ObjectMeta: meta("newer", at(3))},
	)
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: meta("c", inNS)}
	check(t, defaultStorageClass{r}.Admit(t.Context(), ask(admission.Create, "persistentvolumeclaims", claim, nil)), "")
	if *claim.Spec.StorageClassName != "new" {
		t.Errorf("class = %s, want the newest default", *claim.Spec.StorageClassName)
	}
	none := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: new("")}}
	check(t, defaultStorageClass{r}.Admit(t.Context(), ask(admission.Create, "persistentvolumeclaims", none, nil)), "")
	if *none.Spec.StorageClassName != "" {
		t.Errorf("an explicit empty class became %s", *none.Spec.StorageClassName)
	}
	check(t, storageInUse{}.Admit(t.Context(), ask(admission.Create, "persistentvolumeclaims", claim, nil)), "")
	if diff := cmp.Diff([]string{"kubernetes.io/pvc-protection"}, claim.Finalizers); diff != "" {
		t.Error(diff)
	}
	size := func(class, q string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{
			Spec:   corev1.PersistentVolumeClaimSpec{StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse(q)}}},
			Status: corev1.PersistentVolumeClaimStatus{Phase: phase},
		}
	}
	grow := func(class string, phase corev1.PersistentVolumeClaimPhase) error {
		return claimResize{r}.Validate(t.Context(), ask(admission.Update, "persistentvolumeclaims", size(class, "2Gi", phase), size(class, "1Gi", phase)))
	}
	check(t, grow("new", corev1.ClaimBound), "")
	check(t, grow("new", corev1.ClaimPending), "Only bound persistent volume claims can be expanded")
	check(t, grow("old", corev1.ClaimBound), "only dynamically provisioned pvc can be resized")
}

func TestRuntimeClass(t *testing.T) {
	over := corev1.ResourceList{"cpu": resource.MustParse("100m")}
	r := admissiontest.NewReader(&nodev1.RuntimeClass{
		ObjectMeta: meta("vm"), Overhead: &nodev1.Overhead{PodFixed: over},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm"}}},
	})
	p := runtimeClass{r}
	pod := &corev1.Pod{Spec: corev1.PodSpec{RuntimeClassName: new("vm")}}
	for range 2 {
		check(t, p.Admit(t.Context(), ask(admission.Create, "pods", pod, nil)), "")
	}
	check(t, p.Validate(t.Context(), ask(admission.Create, "pods", pod, nil)), "")
	if cpu := pod.Spec.Overhead["cpu"]; cpu.String() != "100m" || pod.Spec.NodeSelector["vm"] != "yes" || len(pod.Spec.Tolerations) != 1 {
		t.Errorf("spec = %+v", pod.Spec)
	}
	clash := &corev1.Pod{Spec: corev1.PodSpec{RuntimeClassName: new("vm"), NodeSelector: map[string]string{"vm": "no"}}}
	check(t, p.Admit(t.Context(), ask(admission.Create, "pods", clash, nil)), "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no")
	check(t, p.Admit(t.Context(), ask(admission.Create, "pods", &corev1.Pod{Spec: corev1.PodSpec{RuntimeClassName: new("x")}}, nil)), `pod rejected: RuntimeClass "x" not found`)
	check(t, p.Validate(t.Context(), ask(admission.Create, "pods", &corev1.Pod{Spec: corev1.PodSpec{Overhead: over}}, nil)), "Pod Overhead set without corresponding RuntimeClass defined Overhead")
}

// signers allows verbs on signers as "verb name".
type signers map[string]bool

func (s signers) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	if a.Resource == "signers" && s[a.Verb+" "+a.Name] {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

func TestCertificates(t *testing.T) {
	may := signers{"approve example.com/*": true, "sign example.com/a": true}
	csr := func(signer string) *certificatesv1.CertificateSigningRequest {
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: meta("c"), Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer}}
	}
	approve := func(signer string) error {
		return certificateApproval{may}.Validate(t.Context(), ask(admission.Update, "certificates.k8s.io/certificatesigningrequests/approval", csr(signer), csr(signer)))
	}
	check(t, approve("example.com/x"), "")
	check(t, approve("other.com/x"), `user not permitted to approve requests with signerName "other.com/x"`)
	sign := func(signer string) error {
		signed := csr(signer)
		signed.Status.Certificate = []byte("x")
		return certificateSigning{may}.Validate(t.Context(), ask(admission.Update, "certificates.k8s.io/certificatesigningrequests/status", signed, csr(signer)))
	}
	check(t, sign("example.com/a"), "")
	check(t, sign("example.com/b"), `user not permitted to sign requests with signerName "example.com/b"`)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x", Organization: []string{"system:masters"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	bad := csr(certificatesv1.KubeAPIServerClientSignerName)
	bad.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	check(t, certificateSubject{}.Validate(t.Context(), ask(admission.Create, "certificates.k8s.io/certificatesigningrequests", bad, nil)), "with system:masters group is not allowed")
}

func TestNetwork(t *testing.T) {
	r := admissiontest.NewReader(&networkingv1.IngressClass{ObjectMeta: meta("nginx", note(networkingv1.AnnotationIsDefaultIngressClass, "true"))})
	ingress := &networkingv1.Ingress{ObjectMeta: meta("i", inNS)}
	check(t, defaultIngressClass{r}.Admit(t.Context(), ask(admission.Create, "networking.k8s.io/ingresses", ingress, nil)), "")
	if ingress.Spec.IngressClassName == nil || *ingress.Spec.IngressClassName != "nginx" {
		t.Errorf("class = %v", ingress.Spec.IngressClassName)
	}
	annotated := &networkingv1.Ingress{ObjectMeta: meta("i", note("kubernetes.io/ingress.class", "x"))}
	check(t, defaultIngressClass{r}.Admit(t.Context(), ask(admission.Create, "networking.k8s.io/ingresses", annotated, nil)), "")
	if annotated.Spec.IngressClassName != nil {
		t.Error("an ingress with the old annotation got a class")
	}
	svc := func(ips ...string) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{ExternalIPs: ips}}
	}
	check(t, denyExternalIPs{}.Validate(t.Context(), ask(admission.Update, "services", svc("a"), svc("a", "b"))), "")
	check(t, denyExternalIPs{}.Validate(t.Context(), ask(admission.Update, "services", svc("a", "c"), svc("a"))), "Use of external IPs is denied by admission control.")
}

func TestPodsOnNodes(t *testing.T) {
	r := admissiontest.NewReader(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelTopologyZone: "z", "other": "x"}},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}},
	})
	binding := &corev1.Binding{ObjectMeta: meta("p", inNS), Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	check(t, topologyLabels{r}.Admit(t.Context(), ask(admission.Create, "pods/binding", binding, nil)), "")
	if diff := cmp.Diff(map[string]string{corev1.LabelTopologyZone: "z"}, binding.Labels); diff != "" {
		t.Error(diff)
	}
	big := &corev1.Pod{ObjectMeta: meta("p", func(m *metav1.ObjectMeta) { m.Generation = 2 }), Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("2")}},
	}}}}
	err := podResize{r}.Validate(t.Context(), ask(admission.Update, "pods/resize", big, &corev1.Pod{}))
	check(t, err, "node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000")
	if !apierrors.HasStatusCause(err, causeNodeCapacity) {
		t.Error("the refusal has no cause")
	}
	node := &corev1.Node{ObjectMeta: meta("m")}
	for range 2 {
		check(t, taintNodes{}.Admit(t.Context(), ask(admission.Create, "nodes", node, nil)), "")
	}
	if len(node.Spec.Taints) != 1 {
		t.Errorf("taints = %v", node.Spec.Taints)
	}
}

func TestGarbageCollectorMayLetGo(t *testing.T) {
	old := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Finalizers: []string{"x/y"}, OwnerReferences: []metav1.OwnerReference{{Name: "o"}}}}
	let := old.DeepCopy()
	let.Finalizers, let.OwnerReferences = nil, nil
	changed := let.DeepCopy()
	changed.Labels = map[string]string{"a": "b"}
	if !onlyGarbageFields(let, old) || onlyGarbageFields(changed, old) {
		t.Error("letting go is not told from changing")
	}
}
