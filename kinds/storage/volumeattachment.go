// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/core"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

// Bounds of what an attacher may report.
const (
	maxMetadata     = 256 << 10 // bytes, keys and values together
	maxErrorMessage = 1024      // bytes
)

func volumeAttachment() *kinds.Kind {
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	attacher := table.Text("Attacher", spec["attacher"])
	attacher.Format = "name"
	return kinds.Define(kinds.Kind{
		Resource:              "volumeattachments",
		Singular:              "volumeattachment",
		AnswersDeleted:        true,
		Reset:                 map[string][]string{"status": {"metadata", "spec"}},
		NoGeneration:          true,
		ConditionalUpdateOnly: true,
		Storage:               kinds.Storage{Prefix: "volumeattachments"},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *storagev1.VolumeAttachment) {
				new.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
			}, validateVolumeAttachmentUpdate),
		},
	}, version.WithKind("VolumeAttachment"),
		func() *storagev1.VolumeAttachment { return &storagev1.VolumeAttachment{} },
		func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		kinds.Strategy[*storagev1.VolumeAttachment]{
			Default: func(a *storagev1.VolumeAttachment) {
				if inline := a.Spec.Source.InlineVolumeSpec; inline != nil {
					podspec.RoundUp(inline.Capacity)
				}
			},
			PrepareCreate:  func(_ kinds.Request, a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
			PrepareUpdate:  func(_ kinds.Request, new, old *storagev1.VolumeAttachment) { new.Status = old.Status },
			Validate:       validateVolumeAttachment,
			ValidateUpdate: validateVolumeAttachmentUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				attacher,
				table.Text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
				table.Text("Node", spec["nodeName"]),
				table.Flag("Attached", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"]),
				table.Age(),
			},
			Row: func(a *storagev1.VolumeAttachment, now time.Time) []any {
				return []any{
					a.Name, a.Spec.Attacher, table.Or(a.Spec.Source.PersistentVolumeName, ""), a.Spec.NodeName,
					a.Status.Attached, table.Since(a.CreationTimestamp, now),
				}
			},
		})
}

func validateVolumeAttachment(_ kinds.Request, a *storagev1.VolumeAttachment) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateDriverName(a.Spec.Attacher, path.Child("attacher"))
	errs = append(errs, validateSource(&a.Spec.Source, path.Child("source"))...)
	errs = append(errs, check.Subdomain(a.Spec.NodeName, path.Child("nodeName"))...)
	errs = append(errs, validateAttachmentStatus(&a.Status, field.NewPath("status"))...)
	if name := a.Spec.Source.PersistentVolumeName; name != nil {
		errs = append(errs, check.Subdomain(*name, field.NewPath("spec.source.persistentVolumeName"))...)
	}
	return errs
}

func validateVolumeAttachmentUpdate(req kinds.Request, new, old *storagev1.VolumeAttachment) field.ErrorList {
	return append(validateVolumeAttachment(req, new), check.Immutable(new.Spec, old.Spec, field.NewPath("spec"))...)
}

func validateSource(source *storagev1.VolumeAttachmentSource, path *field.Path) field.ErrorList {
	const exactlyOne = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	inline, name := source.InlineVolumeSpec, source.PersistentVolumeName
	switch {
	case inline == nil && name == nil:
		return field.ErrorList{field.Required(path, exactlyOne)}
	case inline != nil && name != nil:
		return field.ErrorList{field.Forbidden(path, exactlyOne)}
	case name != nil && *name == "":
		return field.ErrorList{field.Required(path.Child("persistentVolumeName"), "must specify non empty persistentVolumeName")}
	case inline != nil:
		return core.ValidateVolumeSpec(inline, core.VolumeRules{Inline: true}, path.Child("inlineVolumeSpec"))
	}
	return nil
}

func validateAttachmentStatus(status *storagev1.VolumeAttachmentStatus, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for key, value := range status.AttachmentMetadata {
		size += len(key) + len(value)
	}
	if size > maxMetadata {
		errs = append(errs, field.TooLong(path.Child("attachmentMetadata"), "", maxMetadata))
	}
	errs = append(errs, validateVolumeError(status.AttachError, path.Child("attachError"))...)
	return append(errs, validateVolumeError(status.DetachError, path.Child("detachError"))...)
}

func validateVolumeError(e *storagev1.VolumeError, path *field.Path) field.ErrorList {
	if e == nil {
		return nil
	}
	var errs field.ErrorList
	if len(e.Message) > maxErrorMessage {
		errs = append(errs, field.TooLong(path.Child("message"), "", maxMetadata))
	}
	if e.ErrorCode != nil && *e.ErrorCode < 0 {
		errs = append(errs, field.Invalid(path.Child("errorCode"), *e.ErrorCode, utilvalidation.InclusiveRangeError(0, 1<<31-1)))
	}
	return errs
}
