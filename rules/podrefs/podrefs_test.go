// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podrefs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// everything names an object in every place that a pod has for it; the names tell the place.
const everything = `
metadata: {name: p}
spec:
  serviceAccountName: account
  imagePullSecrets: [{name: pull}, {name: ""}]
  resourceClaims: [{name: one, resourceClaimName: claim}, {name: two, resourceClaimTemplateName: template}]
  initContainers:
  - name: first
    env: [{name: A, valueFrom: {secretKeyRef: {name: init-env, key: k}}}, {name: B, value: plain}]
    envFrom: [{configMapRef: {name: init-from}}]
  containers:
  - name: main
    env: [{name: A, valueFrom: {configMapKeyRef: {name: main-env, key: k}}}, {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    envFrom: [{secretRef: {name: main-from}}]
  ephemeralContainers:
  - name: debugger
    env: [{name: A, valueFrom: {secretKeyRef: {name: debug-env, key: k}}}]
    envFrom: [{configMapRef: {name: debug-from}}]
  volumes:
  - {name: v1, configMap: {name: map}}
  - {name: v2, secret: {secretName: secret}}
  - {name: v3, persistentVolumeClaim: {claimName: disk}}
  - {name: v4, ephemeral: {}}
  - name: v5
    projected:
      sources:
      - configMap: {name: projected-map}
      - secret: {name: projected-secret}
      - serviceAccountToken: {path: token}
      - downwardAPI: {}
      - clusterTrustBundle: {name: bundle}
      - clusterTrustBundle: {signerName: signer}
      - podCertificate: {signerName: signer}
  - {name: v6, csi: {driver: driver.example.com, nodePublishSecretRef: {name: csi}}}
  - {name: v7, csi: {driver: plain.example.com}}
  - {name: v8, iscsi: {secretRef: {name: iscsi}}}
  - {name: v9, rbd: {secretRef: {name: rbd}}}
  - {name: v10, cephfs: {secretRef: {name: cephfs}}}
  - {name: v11, flexVolume: {secretRef: {name: flex}}}
  - {name: v12, scaleIO: {secretRef: {name: scaleio}}}
  - {name: v13, storageos: {secretRef: {name: storageos}}}
  - {name: v14, cinder: {secretRef: {name: cinder}}}
  - {name: v15, azureFile: {secretName: azure}}
  - {name: v16, glusterfs: {endpoints: gluster}}
  - {name: v17, emptyDir: {}}
  - {name: v18, rbd: {}}
status:
  resourceClaimStatuses: [{name: two, resourceClaimName: made}]
  extendedResourceClaimStatus: {resourceClaimName: extended}
`

func TestEveryPlaceIsSeen(t *testing.T) {
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(everything), pod); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := range All(pod) {
		words := []string{r.Resource, r.Name}
		if r.Volume != nil {
			words = append(words, "volume "+r.Volume.Name)
		}
		if r.Container != "" {
			words = append(words, r.ContainerSort, r.Container, r.Variable)
		}
		got = append(got, strings.TrimSpace(strings.Join(words, " ")))
	}
	want := []string{
		"serviceaccounts account", "resourceclaims claim", "resourceclaims", "resourceclaims made", "resourceclaims extended", "secrets pull",
		"secrets init-env init container first A", "configmaps init-from init container first",
		"configmaps main-env container main A", "secrets main-from container main",
		"secrets debug-env ephemeral container debugger A", "configmaps debug-from ephemeral container debugger",
		"configmaps map volume v1", "secrets secret volume v2", "persistentvolumeclaims disk volume v3", "persistentvolumeclaims p-v4 volume v4",
		"configmaps projected-map volume v5", "secrets projected-secret volume v5", "serviceaccounts account volume v5",
		"clustertrustbundles bundle volume v5", "clustertrustbundles  volume v5", "podcertificates  volume v5",
		"csidrivers driver.example.com volume v6", "secrets csi volume v6", "csidrivers plain.example.com volume v7",
		"secrets iscsi volume v8", "secrets rbd volume v9", "secrets cephfs volume v10", "secrets flex volume v11", "secrets scaleio volume v12",
		"secrets storageos volume v13", "secrets cinder volume v14", "secrets azure volume v15", "endpoints gluster volume v16",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
	for stop := range got {
		seen := 0
		for range All(pod) {
			if seen++; seen > stop {
				break // an iteration may be left at any place
			}
		}
	}
}

func TestQuestionsAboutReferences(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: corev1.PodSpec{
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "a"}, {Name: "b"}, {Name: ""}},
			Volumes:          []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "a"}}}},
		},
	}
	if diff := cmp.Diff(map[string]bool{"a": true, "b": true}, Of(pod, Secrets)); diff != "" {
		t.Errorf("Of(secrets) (-want +got):\n%s", diff)
	}
	if !Has(pod, Secrets) || Has(pod, ConfigMaps) {
		t.Errorf("Has = %v, %v of secrets and config maps, want true, false", Has(pod, Secrets), Has(pod, ConfigMaps))
	}
	if !Names(pod, Secrets, "b") || Names(pod, Secrets, "c") || Names(pod, ConfigMaps, "a") {
		t.Error("Names does not tell names and resources apart")
	}
}
