// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admissionregistration

import (
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/api/admissionregistration/v1alpha1"
	admissionregistrationv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func paramKind(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return table.Unset
	}
	return k.APIVersion + "/" + k.Kind
}

func policyColumns(count, description string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Number(count, description),
		table.Text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
		table.Age(),
	}
}

func mutatingPolicy(e *expressions) *kinds.Kind {
	const name = "MutatingAdmissionPolicy"
	kind := extension("mutatingadmissionpolicies", "mutatingadmissionpolicy")
	kind.Storage.Form = admissionregistrationv1beta1.SchemeGroupVersion // as upstream, whose v1 is of this release
	kind.OnRequest = []kinds.Served{
		kinds.Mirror[admissionregistrationv1beta1.MutatingAdmissionPolicy, admissionregistrationv1beta1.MutatingAdmissionPolicyList,
			admissionregistrationv1.MutatingAdmissionPolicy](admissionregistrationv1beta1.SchemeGroupVersion.WithKind(name)),
		kinds.Mirror[admissionregistrationv1alpha1.MutatingAdmissionPolicy, admissionregistrationv1alpha1.MutatingAdmissionPolicyList,
			admissionregistrationv1.MutatingAdmissionPolicy](admissionregistrationv1alpha1.SchemeGroupVersion.WithKind(name)),
	}
	return kinds.Define(kind, version.WithKind(name),
		func() *admissionregistrationv1.MutatingAdmissionPolicy {
			return &admissionregistrationv1.MutatingAdmissionPolicy{}
		},
		func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyList{} },
		kinds.Strategy[*admissionregistrationv1.MutatingAdmissionPolicy]{
			Default: func(p *admissionregistrationv1.MutatingAdmissionPolicy) {
				fill(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
				defaultMatch(p.Spec.MatchConstraints)
			},
			PrepareCreate: firstGeneration[*admissionregistrationv1.MutatingAdmissionPolicy],
			PrepareUpdate: func(_ kinds.Request, new, old *admissionregistrationv1.MutatingAdmissionPolicy) {
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       e.validateMutatingPolicy,
			ValidateUpdate: e.validateMutatingPolicyUpdate,
			Warn:           warnSuffix[*admissionregistrationv1.MutatingAdmissionPolicy],
			Columns:        policyColumns("Mutations", "Mutation indicates the number of mutations rules defined in this configuration"),
			Row: func(p *admissionregistrationv1.MutatingAdmissionPolicy, now time.Time) []any {
				return []any{p.Name, int64(len(p.Spec.Mutations)), paramKind(p.Spec.ParamKind), table.Since(p.CreationTimestamp, now)}
			},
		})
}

func validatingPolicy(e *expressions) *kinds.Kind {
	kind := extension("validatingadmissionpolicies", "validatingadmissionpolicy")
	kind.Reset = map[string][]string{"status": {"metadata", "spec"}}
	kind.Subresources = []kinds.Subresource{
		kinds.Status(func(_ kinds.Request, new, old *admissionregistrationv1.ValidatingAdmissionPolicy) {
			new.Spec = old.Spec
			metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
		}, validateValidatingPolicyStatus),
	}
	return kinds.Define(kind, version.WithKind("ValidatingAdmissionPolicy"),
		func() *admissionregistrationv1.ValidatingAdmissionPolicy {
			return &admissionregistrationv1.ValidatingAdmissionPolicy{}
		},
		func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyList{} },
		kinds.Strategy[*admissionregistrationv1.ValidatingAdmissionPolicy]{
			Default: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
				fill(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
				defaultMatch(p.Spec.MatchConstraints)
			},
			PrepareCreate: func(_ kinds.Request, p *admissionregistrationv1.ValidatingAdmissionPolicy) {
				p.Status = admissionregistrationv1.ValidatingAdmissionPolicyStatus{}
				p.Generation = 1
			},
			PrepareUpdate: func(_ kinds.Request, new, old *admissionregistrationv1.ValidatingAdmissionPolicy) {
				new.Status = old.Status
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       e.validateValidatingPolicy,
			ValidateUpdate: e.validateValidatingPolicyUpdate,
			Warn:           warnSuffix[*admissionregistrationv1.ValidatingAdmissionPolicy],
			Columns:        policyColumns("Validations", "Validations indicates the number of validation rules defined in this configuration"),
			Row: func(p *admissionregistrationv1.ValidatingAdmissionPolicy, now time.Time) []any {
				return []any{p.Name, int64(len(p.Spec.Validations)), paramKind(p.Spec.ParamKind), table.Since(p.CreationTimestamp, now)}
			},
		})
}

func bindingColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
		table.Text("ParamRef", "ParamRef indicates the param resource which sets the configuration param"),
		table.Age(),
	}
}

func paramRef(ref *admissionregistrationv1.ParamRef) string {
	switch {
	case ref == nil:
		return table.Unset
	case ref.Name != "" && ref.Namespace != "":
		return ref.Namespace + "/" + ref.Name
	case ref.Name != "":
		return "*/" + ref.Name
	case ref.Selector != nil:
		return ref.Selector.String()
	}
	return table.Unset
}

func mutatingPolicyBinding() *kinds.Kind {
	const name = "MutatingAdmissionPolicyBinding"
	kind := extension("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding")
	kind.Storage.Form = admissionregistrationv1beta1.SchemeGroupVersion // as upstream, whose v1 is of this release
	kind.OnRequest = []kinds.Served{
		kinds.Mirror[admissionregistrationv1beta1.MutatingAdmissionPolicyBinding, admissionregistrationv1beta1.MutatingAdmissionPolicyBindingList,
			admissionregistrationv1.MutatingAdmissionPolicyBinding](admissionregistrationv1beta1.SchemeGroupVersion.WithKind(name)),
		kinds.Mirror[admissionregistrationv1alpha1.MutatingAdmissionPolicyBinding, admissionregistrationv1alpha1.MutatingAdmissionPolicyBindingList,
			admissionregistrationv1.MutatingAdmissionPolicyBinding](admissionregistrationv1alpha1.SchemeGroupVersion.WithKind(name)),
	}
	// Parameters that are missing deny, where the oldest version leaves that open.
	kind.OnRequest[1].Default = func(obj kinds.Object) {
		if ref := obj.(*admissionregistrationv1alpha1.MutatingAdmissionPolicyBinding).Spec.ParamRef; ref != nil {
			fill(&ref.ParameterNotFoundAction, admissionregistrationv1alpha1.DenyAction)
		}
	}
	return kinds.Define(kind, version.WithKind(name),
		func() *admissionregistrationv1.MutatingAdmissionPolicyBinding {
			return &admissionregistrationv1.MutatingAdmissionPolicyBinding{}
		},
		func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyBindingList{} },
		kinds.Strategy[*admissionregistrationv1.MutatingAdmissionPolicyBinding]{
			Default:       func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
			PrepareCreate: firstGeneration[*admissionregistrationv1.MutatingAdmissionPolicyBinding],
			PrepareUpdate: func(_ kinds.Request, new, old *admissionregistrationv1.MutatingAdmissionPolicyBinding) {
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateMutatingBinding,
			ValidateUpdate: validateMutatingBindingUpdate,
			Warn:           warnSuffix[*admissionregistrationv1.MutatingAdmissionPolicyBinding],
			Columns:        bindingColumns(),
			Row: func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding, now time.Time) []any {
				return []any{b.Name, b.Spec.PolicyName, paramRef(b.Spec.ParamRef), table.Since(b.CreationTimestamp, now)}
			},
		})
}

func validatingPolicyBinding() *kinds.Kind {
	return kinds.Define(extension("validatingadmissionpolicybindings", "validatingadmissionpolicybinding"), version.WithKind("ValidatingAdmissionPolicyBinding"),
		func() *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
			return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		},
		func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{} },
		kinds.Strategy[*admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
			Default:       func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
			PrepareCreate: firstGeneration[*admissionregistrationv1.ValidatingAdmissionPolicyBinding],
			PrepareUpdate: func(_ kinds.Request, new, old *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateValidatingBinding,
			ValidateUpdate: validateValidatingBindingUpdate,
			Warn:           warnSuffix[*admissionregistrationv1.ValidatingAdmissionPolicyBinding],
			Columns:        bindingColumns(),
			Row: func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, now time.Time) []any {
				return []any{b.Name, b.Spec.PolicyName, paramRef(b.Spec.ParamRef), table.Since(b.CreationTimestamp, now)}
			},
		})
}
