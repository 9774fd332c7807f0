// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package coordination

import (
	"time"

	"github.com/blang/semver/v4"
	coordinationv1 "k8s.io/api/coordination/v1"
	coordinationv1alpha2 "k8s.io/api/coordination/v1alpha2"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/table"
)

// leaseCandidate is served on request only. Nothing elects among candidates: in v1.36 that takes a feature gate besides.
func leaseCandidate() *kinds.Kind {
	const name = "LeaseCandidate"
	beta := coordinationv1beta1.SchemeGroupVersion.WithKind(name)
	return kinds.Define(kinds.Kind{
		Resource:              "leasecandidates",
		Singular:              "leasecandidate",
		FreeFinalizers:        true,
		Namespaced:            true,
		NoGeneration:          true,
		CreateOnUpdate:        true,
		ConditionalUpdateOnly: true,
		ValidateName:          func(name string, _ bool) []string { return utilvalidation.IsConfigMapKey(name) },
		Storage:               kinds.Storage{Prefix: "leasecandidates"},
		OnRequest: []kinds.Served{
			kinds.Plain[coordinationv1beta1.LeaseCandidate, coordinationv1beta1.LeaseCandidateList](beta),
			kinds.Mirror[coordinationv1alpha2.LeaseCandidate, coordinationv1alpha2.LeaseCandidateList, coordinationv1beta1.LeaseCandidate](
				coordinationv1alpha2.SchemeGroupVersion.WithKind(name)),
		},
	}, beta,
		func() *coordinationv1beta1.LeaseCandidate { return &coordinationv1beta1.LeaseCandidate{} },
		func() runtime.Object { return &coordinationv1beta1.LeaseCandidateList{} },
		kinds.Strategy[*coordinationv1beta1.LeaseCandidate]{
			Validate: func(_ kinds.Request, c *coordinationv1beta1.LeaseCandidate) field.ErrorList {
				return validateCandidate(&c.Spec, field.NewPath("spec"))
			},
			ValidateUpdate: func(_ kinds.Request, new, old *coordinationv1beta1.LeaseCandidate) field.ErrorList {
				path := field.NewPath("spec")
				return append(validateCandidate(&new.Spec, path), check.Immutable(new.Spec.LeaseName, old.Spec.LeaseName, path.Child("leaseName"))...)
			},
			Fields: func(c *coordinationv1beta1.LeaseCandidate) fields.Set {
				return fields.Set{"spec.leaseName": c.Spec.LeaseName}
			},
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("LeaseName", coordinationv1beta1.LeaseCandidateSpec{}.SwaggerDoc()["leaseName"]),
				table.Text("BinaryVersion", ""), table.Text("EmulationVersion", ""), table.Age(),
			},
			Row: func(c *coordinationv1beta1.LeaseCandidate, now time.Time) []any {
				return []any{c.Name, c.Spec.LeaseName, c.Spec.BinaryVersion, c.Spec.EmulationVersion, table.Since(c.CreationTimestamp, now)}
			},
		})
}

// validateCandidate wants a lease, a strategy, and the version of the program, which can't emulate a newer one.
func validateCandidate(spec *coordinationv1beta1.LeaseCandidateSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.LeaseName == "" {
		errs = append(errs, field.Required(path.Child("leaseName"), ""))
	}
	parse := func(text, name string) semver.Version {
		v, err := semver.Parse(text)
		if text != "" && err != nil {
			errs = append(errs, field.Invalid(path.Child(name), text, "must be a valid semantic version"))
		}
		return v
	}
	emulated := parse(spec.EmulationVersion, "emulationVersion")
	binary := parse(spec.BinaryVersion, "binaryVersion")
	switch {
	case spec.BinaryVersion == "":
		errs = append(errs, field.Required(path.Child("binaryVersion"), ""))
	case spec.EmulationVersion != "" && binary.LT(emulated):
		errs = append(errs, field.Invalid(path.Child("binaryVersion"), spec.BinaryVersion, "must be greater than or equal to `emulationVersion`"))
	}
	if spec.Strategy == "" {
		return append(errs, field.Required(path.Child("strategy"), ""))
	}
	if spec.Strategy == coordinationv1.OldestEmulationVersion && emulated.EQ(semver.Version{}) {
		errs = append(errs, field.Required(path.Child("emulationVersion"), "must be specified when `strategy` is 'OldestEmulationVersion'"))
	}
	return append(errs, validateStrategy(spec.Strategy, path.Child("strategy"))...)
}
