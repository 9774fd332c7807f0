// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

func create[T kinds.Object](t *testing.T, c *client.Client, obj T) T {
	t.Helper()
	out, err := client.Of[T](c).Create(t.Context(), obj)
	if err != nil {
		t.Fatalf("create %T %s: %v", obj, obj.GetName(), err)
	}
	return out
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func account(t *testing.T, c *client.Client) {
	t.Helper()
	create(t, c, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}})
}

// eventually repeats until check returns nothing, because caches follow writes.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		text := check()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(text)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error = %v, want one with %q", err, text)
	}
}

func TestSecondStartChangesNothing(t *testing.T) {
	p := newPlane(t)
	roles := client.Of[*rbacv1.ClusterRole](p.admin())
	before, err := roles.Get(t.Context(), "", "edit")
	if err != nil {
		t.Fatal(err)
	}
	if err := bootstrap.Once(t.Context(), p.bootstrapConfig()); err != nil {
		t.Fatal(err)
	}
	after, err := roles.Get(t.Context(), "", "edit")
	if err != nil || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("edit is at %s after a second start, was at %s (%v)", after.ResourceVersion, before.ResourceVersion, err)
	}
	slice, err := p.server.Reader().List(t.Context(), schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}, "default")
	if err != nil || len(slice) != 1 {
		t.Errorf("endpoint slices of the kubernetes service: %d, %v", len(slice), err)
	}
}

func TestBootstrapRepairsRoles(t *testing.T) {
	p := newPlane(t)
	roles := client.Of[*rbacv1.ClusterRole](p.admin())
	role, err := roles.Get(t.Context(), "", "system:discovery")
	if err != nil {
		t.Fatal(err)
	}
	broken := role.DeepCopy()
	broken.Rules = []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/mine"}}}
	if _, err := roles.Update(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	if err := bootstrap.Once(t.Context(), p.bootstrapConfig()); err != nil {
		t.Fatal(err)
	}
	got, err := roles.Get(t.Context(), "", "system:discovery")
	if err != nil || len(got.Rules) < 2 || got.Rules[0].NonResourceURLs[0] != "/mine" {
		t.Errorf("rules = %v, %v; want the user's rule and the default ones", got.Rules, err)
	}
}

func TestAccessFollowsBindings(t *testing.T) {
	p := newPlane(t)
	admin, jane := p.admin(), p.as("jane")
	_, err := client.Of[*corev1.ConfigMap](jane).List(t.Context(), "default", metav1.ListOptions{})
	wantError(t, err, `configmaps is forbidden: User "jane" cannot list resource "configmaps" in API group "" in the namespace "default"`)
	create(t, admin, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "jane-edits"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:aggregate-to-edit"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}},
	})
	eventually(t, func() string {
		if _, err := client.Of[*corev1.ConfigMap](jane).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "x-"}}); err != nil {
			return err.Error()
		}
		return ""
	})
	_, err = client.Of[*corev1.ConfigMap](jane).List(t.Context(), "kube-system", metav1.ListOptions{})
	wantError(t, err, "is forbidden")
}

func TestNobodyGrantsWhatTheyLack(t *testing.T) {
	p := newPlane(t)
	create(t, p.admin(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "role-writer"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}}},
	})
	// "*" would include escalate and bind: name the verbs.
	role, err := client.Of[*rbacv1.ClusterRole](p.admin()).Get(t.Context(), "", "role-writer")
	if err != nil {
		t.Fatal(err)
	}
	role = role.DeepCopy()
	role.Rules[0].Verbs = []string{"get", "create", "update"}
	if _, err := client.Of[*rbacv1.ClusterRole](p.admin()).Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	create(t, p.admin(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "role-writer"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "role-writer"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "eve"}},
	})
	eve := p.as("eve")
	eventually(t, func() string {
		_, err := client.Of[*rbacv1.RoleBinding](eve).Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "none"},
		})
		if want := `rolebindings.rbac.authorization.k8s.io "none" not found`; err == nil || err.Error() != want {
			return "bind a role that is not there: " + errText(err)
		}
		return ""
	})
	eventually(t, func() string {
		_, err := client.Of[*rbacv1.Role](eve).Create(t.Context(), &rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "secrets"},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}},
		})
		if err == nil || !strings.Contains(err.Error(), `user "eve" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held`) ||
			!strings.Contains(err.Error(), `{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`) {
			return "create role: " + errText(err)
		}
		return ""
	})
	_, err = client.Of[*rbacv1.RoleBinding](eve).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "all"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "eve"}},
	})
	wantError(t, err, "is attempting to grant RBAC permissions not currently held")
}

func errText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func TestPodsAreCompleted(t *testing.T) {
	p := newPlane(t)
	account(t, p.admin())
	got := create(t, p.admin(), pod("a"))
	if got.Spec.ServiceAccountName != "default" || len(got.Spec.Volumes) != 1 || len(got.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("service account %q, %d volumes", got.Spec.ServiceAccountName, len(got.Spec.Volumes))
	}
	if got.Spec.Priority == nil || *got.Spec.Priority != 0 || *got.Spec.PreemptionPolicy != corev1.PreemptLowerPriority {
		t.Errorf("priority = %v, %v", got.Spec.Priority, got.Spec.PreemptionPolicy)
	}
	if len(got.Spec.Tolerations) != 2 {
		t.Errorf("tolerations = %v", got.Spec.Tolerations)
	}
	critical := pod("b")
	critical.Spec.PriorityClassName = "system-node-critical"
	if got := create(t, p.admin(), critical); *got.Spec.Priority != 2000001000 {
		t.Errorf("priority of a node-critical pod = %d", *got.Spec.Priority)
	}
	unknown := pod("c")
	unknown.Spec.PriorityClassName = "nope"
	_, err := client.Of[*corev1.Pod](p.admin()).Create(t.Context(), unknown)
	wantError(t, err, `pods "c" is forbidden: no PriorityClass with name nope was found`)
}

func TestQuotaRefusesAndCounts(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	account(t, admin)
	q := create(t, admin, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("1"), "count/configmaps": resource.MustParse("0")}},
	}).DeepCopy()
	q.Status.Hard = q.Spec.Hard
	q.Status.Used = corev1.ResourceList{"pods": resource.MustParse("0"), "count/configmaps": resource.MustParse("0")}
	if _, err := client.Of[*corev1.ResourceQuota](admin).UpdateStatus(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		_, err := client.Of[*corev1.ConfigMap](admin).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "x"}})
		if err == nil || !strings.Contains(err.Error(), `is forbidden: exceeded quota: one, requested: count/configmaps=1, used: count/configmaps=0, limited: count/configmaps=0`) {
			return "configmap: " + errText(err)
		}
		return ""
	})
	create(t, admin, pod("first"))
	_, err := client.Of[*corev1.Pod](admin).Create(t.Context(), pod("second"))
	wantError(t, err, `pods "second" is forbidden: exceeded quota: one, requested: pods=1, used: pods=1, limited: pods=1`)
	stored, err := client.Of[*corev1.ResourceQuota](admin).Get(t.Context(), "default", "one")
	if used := stored.Status.Used["pods"]; err != nil || used.Value() != 1 {
		t.Errorf("used pods = %v, %v", used, err)
	}
}

func TestLimitsAndPodSecurity(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	account(t, admin)
	create(t, admin, &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "l"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{"cpu": resource.MustParse("1")}, Max: corev1.ResourceList{"cpu": resource.MustParse("2")},
		}}},
	})
	eventually(t, func() string {
		got, err := client.Of[*corev1.Pod](admin).Create(t.Context(), func() *corev1.Pod { x := pod(""); x.GenerateName = "d"; return x }())
		if err != nil {
			return err.Error()
		}
		if cpu := got.Spec.Containers[0].Resources.Limits["cpu"]; cpu.String() != "1" {
			return "cpu limit = " + cpu.String()
		}
		return ""
	})
	big := pod("big")
	big.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("3")}
	_, err := client.Of[*corev1.Pod](admin).Create(t.Context(), big)
	wantError(t, err, "maximum cpu usage per Container is 2, but limit is 3")

	create(t, admin, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}})
	create(t, admin, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "strict", Name: "default"}})
	loose := pod("loose")
	loose.Namespace = "strict"
	_, err = client.Of[*corev1.Pod](admin).Create(t.Context(), loose)
	wantError(t, err, `pods "loose" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false`)
}

func TestNodesReachOnlyTheirOwn(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	account(t, admin)
	n1 := p.as("system:node:n1", request.GroupNodes)
	for _, name := range []string{"mine", "other"} {
		create(t, admin, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
	}
	bound := pod("p")
	bound.Spec.NodeName = "n1"
	bound.Spec.Volumes = []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mine"}}}}
	made := create(t, admin, bound)
	eventually(t, func() string {
		if _, err := client.Of[*corev1.Secret](n1).Get(t.Context(), "default", "mine"); err != nil {
			return err.Error()
		}
		return ""
	})
	_, err := client.Of[*corev1.Secret](n1).Get(t.Context(), "default", "other")
	wantError(t, err, "no relationship found between node 'n1' and this object")
	_, err = client.Of[*corev1.Node](n1).Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}})
	wantError(t, err, `node "n1" is not allowed to modify node "n2"`)
	node := create(t, n1, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	if len(node.Spec.Taints) != 1 || node.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
		t.Errorf("taints of a new node = %v", node.Spec.Taints)
	}
	accounts := client.Of[*corev1.ServiceAccount](n1)
	_, err = accounts.Post(t.Context(), "default", "default", "token", &authenticationv1.TokenRequest{})
	wantError(t, err, "node requested token not bound to a pod")
	_, err = accounts.Post(t.Context(), "default", "default", "token", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: made.Name, UID: made.UID},
		Audiences:      []string{"vault"},
	}})
	wantError(t, err, `audience "vault" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience`)
	out, err := accounts.Post(t.Context(), "default", "default", "token", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: made.Name, UID: made.UID},
	}})
	if tr, ok := out.(*authenticationv1.TokenRequest); err != nil || !ok || tr.Status.Token == "" {
		t.Errorf("token of the node's own pod: %v", err)
	}
}

func TestCustomResources(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	crds := client.Of[*apiextensionsv1.CustomResourceDefinition](admin)
	create(t, admin, &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "crontabs.stable.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "stable.example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "crontabs", Singular: "crontab", Kind: "CronTab", ListKind: "CronTabList", ShortNames: []string{"ct"}},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{
					Status: &apiextensionsv1.CustomResourceSubresourceStatus{},
					Scale:  &apiextensionsv1.CustomResourceSubresourceScale{SpecReplicasPath: ".spec.replicas", StatusReplicasPath: ".status.replicas"},
				},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{
						"spec": {Type: "object", Required: []string{"image"}, Properties: map[string]apiextensionsv1.JSONSchemaProps{
							"image":    {Type: "string"},
							"replicas": {Type: "integer", Default: &apiextensionsv1.JSON{Raw: []byte("3")}, Maximum: new(10.0)},
						}, XValidations: apiextensionsv1.ValidationRules{{Rule: "self.replicas % 2 == 1", Message: "replicas must be odd"}}},
						"status": {Type: "object", XPreserveUnknownFields: new(true)},
					},
				}},
			}},
		},
	})
	eventually(t, func() string {
		crd, err := crds.Get(t.Context(), "", "crontabs.stable.example.com")
		if err != nil {
			return err.Error()
		}
		for _, c := range crd.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return ""
			}
		}
		return "not established"
	})
	gvr := schema.GroupVersionResource{Group: "stable.example.com", Version: "v1", Resource: "crontabs"}
	tabs := client.At(admin, gvr, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
	tab := func(name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "stable.example.com/v1", "kind": "CronTab",
			"metadata": map[string]any{"namespace": "default", "name": name}, "spec": spec, "status": map[string]any{"x": "y"},
		}}
	}
	got, err := tabs.Create(t.Context(), tab("good", map[string]any{"image": "a", "unknown": "dropped"}))
	if err != nil {
		t.Fatal(err)
	}
	spec := got.Object["spec"].(map[string]any)
	if spec["replicas"] != int64(3) || spec["unknown"] != nil || got.Object["status"] != nil || got.GetGeneration() != 1 {
		t.Errorf("created = %v", got.Object)
	}
	_, err = tabs.Create(t.Context(), tab("even", map[string]any{"image": "a", "replicas": int64(4)}))
	wantError(t, err, "replicas must be odd")
	_, err = tabs.Create(t.Context(), tab("none", map[string]any{}))
	wantError(t, err, "spec.image: Required value")
	_, err = tabs.Create(t.Context(), tab("many", map[string]any{"image": "a", "replicas": int64(11)}))
	wantError(t, err, "spec.replicas: Invalid value")
	patched, err := tabs.Patch(t.Context(), "default", "good", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`))
	if err != nil || patched.GetGeneration() != 2 {
		t.Errorf("patched = %v, %v", patched, err)
	}
	_, err = tabs.Patch(t.Context(), "default", "good", types.MergePatchType, []byte(`{"spec":{"replicas":-1}}`), "scale")
	wantError(t, err, ".spec.replicas: Invalid value: -1: should be a non-negative integer")
	status := patched.DeepCopy()
	status.Object["status"] = map[string]any{"phase": "ok"}
	status.Object["spec"] = map[string]any{"image": "ignored"}
	after, err := tabs.UpdateStatus(t.Context(), status)
	if err != nil || after.GetGeneration() != 2 || after.Object["spec"].(map[string]any)["image"] != "a" {
		t.Errorf("status update = %v, %v", after, err)
	}
	applied, err := tabs.Patch(t.Context(), "default", "good", types.ApplyPatchType, []byte(`{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"good","labels":{"a":"b"}},"spec":{"image":"a"}}`))
	if err != nil {
		// In process the field manager comes with the options.
		t.Logf("apply: %v (%v)", err, applied)
	}
	// The definition goes with its objects.
	withFinalizer := after.DeepCopy()
	if err := crds.Delete(t.Context(), "", "crontabs.stable.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_ = withFinalizer
	eventually(t, func() string {
		if _, err := crds.Get(t.Context(), "", "crontabs.stable.example.com"); !apierrors.IsNotFound(err) {
			return "definition is still there: " + errText(err)
		}
		if _, err := tabs.List(t.Context(), "default", metav1.ListOptions{}); !apierrors.IsNotFound(err) {
			return "resource is still served: " + errText(err)
		}
		return ""
	})
}

func TestDefinitionsNameFaultsOfAllKinds(t *testing.T) {
	p := newPlane(t)
	broken := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "lamps.stable.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "stable.example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "lamps", Singular: "lamp", Kind: "Lamp", ListKind: "LampList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				AdditionalPrinterColumns: []apiextensionsv1.CustomResourceColumnDefinition{{Name: "A", Type: "nonsense", JSONPath: ".a"}},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type:       "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{"a": {Type: "string", XValidations: apiextensionsv1.ValidationRules{{Rule: "self.nothing == 1"}}}},
				}},
			}},
		},
	}
	_, err := client.Of[*apiextensionsv1.CustomResourceDefinition](p.admin()).Create(t.Context(), broken)
	wantError(t, err, "spec.additionalPrinterColumns[0].type: Invalid value")
	wantError(t, err, "spec.validation.openAPIV3Schema.properties[a].x-kubernetes-validations[0].rule: Invalid value")
}

func TestPolicies(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	rules := &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
		RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{"CREATE"},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
		},
	}}, NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{}}
	create(t, admin, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "params"}, Data: map[string]string{"max": "3"}})
	create(t, admin, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "short"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			ParamKind:        &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
			MatchConstraints: rules,
			Variables:        []admissionregistrationv1.Variable{{Name: "n", Expression: "has(object.data) ? size(object.data) : 0"}},
			Validations: []admissionregistrationv1.Validation{{
				Expression: "variables.n <= int(params.data.max)", MessageExpression: "'too many: ' + string(variables.n)",
			}},
		},
	})
	create(t, admin, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "short"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "short", ValidationActions: []admissionregistrationv1.ValidationAction{"Deny"},
			ParamRef: &admissionregistrationv1.ParamRef{Name: "params", Namespace: "default", ParameterNotFoundAction: new(admissionregistrationv1.DenyAction)},
		},
	})
	long := func() *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "c-"}, Data: map[string]string{"a": "", "b": "", "c": "", "d": ""}}
	}
	eventually(t, func() string {
		_, err := client.Of[*corev1.ConfigMap](admin).Create(t.Context(), long())
		if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'short' with binding 'short' denied request: too many: 4") {
			return "validating: " + errText(err)
		}
		return ""
	})
	mutation := func(name string, m admissionregistrationv1.Mutation) {
		create(t, admin, &admissionregistrationv1.MutatingAdmissionPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
				MatchConstraints: rules, Mutations: []admissionregistrationv1.Mutation{m}, ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			},
		})
		create(t, admin, &admissionregistrationv1.MutatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
		})
	}
	mutation("patch", admissionregistrationv1.Mutation{
		PatchType: admissionregistrationv1.PatchTypeJSONPatch,
		JSONPatch: &admissionregistrationv1.JSONPatch{Expression: `[JSONPatch{op: "add", path: "/data", value: {"added": "yes"}}]`},
	})
	eventually(t, func() string {
		got, err := client.Of[*corev1.ConfigMap](admin).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "m-"}})
		if err != nil || got.Data["added"] != "yes" {
			return "mutating: " + errText(err)
		}
		return ""
	})
}

func TestTokensProveAccounts(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	account(t, admin)
	out, err := client.Of[*corev1.ServiceAccount](admin).Post(t.Context(), "default", "default", "token", &authenticationv1.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	tr, ok := out.(*authenticationv1.TokenRequest)
	if !ok || tr.Status.Token == "" || *tr.Spec.ExpirationSeconds != 3600 {
		t.Fatalf("answer = %#v", out)
	}
	_, err = client.Of[*corev1.ServiceAccount](admin).Post(t.Context(), "default", "default", "token", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(60))}})
	wantError(t, err, "may not specify a duration less than 10 minutes")
}

func TestNodesMayFollowTheirOwn(t *testing.T) {
	p := newPlane(t)
	n1 := p.as("system:node:n1", request.GroupNodes)
	pods, nodes := client.Of[*corev1.Pod](n1), client.Of[*corev1.Node](n1)
	for name, c := range map[string]struct {
		do   func() error
		want string
	}{
		"pods of the node": {func() error {
			_, err := pods.List(t.Context(), "", metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
			return err
		}, ""},
		"pods of another": {func() error {
			_, err := pods.List(t.Context(), "", metav1.ListOptions{FieldSelector: "spec.nodeName=n2"})
			return err
		}, "can only list/watch pods with spec.nodeName field selector"},
		"all pods": {func() error { _, err := pods.List(t.Context(), "", metav1.ListOptions{}); return err }, "can only list/watch pods"},
		"watching pods": {func() error {
			w, err := pods.Watch(t.Context(), "", metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
			if err == nil {
				w.Stop()
			}
			return err
		}, ""},
		"its own Node": {func() error {
			_, err := nodes.List(t.Context(), "", metav1.ListOptions{FieldSelector: "metadata.name=n1"})
			return err
		}, ""},
		"watching its own Node": {func() error {
			w, err := nodes.Watch(t.Context(), "", metav1.ListOptions{FieldSelector: "metadata.name=n1"})
			if err == nil {
				w.Stop()
			}
			return err
		}, ""},
		"another Node": {func() error {
			_, err := nodes.List(t.Context(), "", metav1.ListOptions{FieldSelector: "metadata.name=n2"})
			return err
		}, "node 'n1' cannot read 'n2', only its own Node object"},
		"services": {func() error {
			_, err := client.Of[*corev1.Service](n1).List(t.Context(), "", metav1.ListOptions{})
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.do()
			if c.want == "" && err != nil {
				t.Error(err)
			}
			if c.want != "" {
				wantError(t, err, c.want)
			}
		})
	}
}

// TestComponentsHaveTheirRights asks, for the identities of the control plane, for what they can't do without.
func TestComponentsHaveTheirRights(t *testing.T) {
	p := newPlane(t)
	const sa = "system:serviceaccount:kube-system:"
	for _, c := range []struct {
		user string
		do   func(*client.Client) error
	}{
		{"system:kube-scheduler", func(c *client.Client) error {
			_, err := client.Of[*corev1.Pod](c).List(t.Context(), "", metav1.ListOptions{})
			return err
		}},
		{"system:kube-proxy", func(c *client.Client) error {
			_, err := client.Of[*corev1.Service](c).List(t.Context(), "", metav1.ListOptions{})
			return err
		}},
		{sa + "namespace-controller", func(c *client.Client) error {
			_, err := client.Of[*corev1.Namespace](c).List(t.Context(), "", metav1.ListOptions{})
			return err
		}},
		{sa + "coredns", func(c *client.Client) error {
			_, err := client.Of[*corev1.Namespace](c).List(t.Context(), "", metav1.ListOptions{})
			return err
		}},
		{sa + "metrics-server", func(c *client.Client) error {
			_, err := client.Of[*corev1.Node](c).List(t.Context(), "", metav1.ListOptions{})
			return err
		}},
		{"system:anonymous", func(c *client.Client) error {
			_, err := client.Of[*corev1.ConfigMap](c).Get(t.Context(), "kube-public", "cluster-info")
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		}},
	} {
		if err := c.do(p.as(c.user)); err != nil {
			t.Errorf("%s: %v", c.user, err)
		}
	}
	_, err := client.Of[*corev1.Secret](p.as("system:kube-proxy")).List(t.Context(), "", metav1.ListOptions{})
	wantError(t, err, "forbidden")
}
