// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/apiserver/admission"
)

// outcome of asking one hook.
type outcome struct {
	// asked is false when a match condition kept the request from the hook.
	asked       bool
	patch       []byte
	patchType   admissionv1.PatchType
	warnings    []string
	annotations map[string]string
	// refusal is the hook's own no.
	refusal error
	// failure is that it could not be asked, or answered nonsense; the failure policy decides what that means.
	failure error
}

// ask converts the objects, evaluates match conditions and calls the hook.
func (c *Config) ask(ctx context.Context, a *admission.Attributes, k *call) outcome {
	object, err := c.Versions.ToVersion(a.Object, a.Resource.GroupResource(), k.kind)
	if err != nil {
		return outcome{refusal: apierrors.NewInternalError(err)}
	}
	old, err := c.Versions.ToVersion(a.Old, a.Resource.GroupResource(), k.kind)
	if err != nil {
		return outcome{refusal: apierrors.NewInternalError(err)}
	}
	if k.match != nil {
		ok, _, err := k.match().Eval(ctx, c.input(a, k, object, old))
		if err != nil {
			if k.failOpen {
				return outcome{}
			}
			return outcome{refusal: admission.Forbidden(a, err)}
		}
		if !ok {
			return outcome{}
		}
	}
	if a.DryRun && k.sideEffects != "None" && k.sideEffects != "NoneOnDryRun" {
		return outcome{asked: true, refusal: apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", k.name))}
	}
	request, err := newRequest(a, k, object, old)
	if err != nil {
		return outcome{asked: true, refusal: apierrors.NewInternalError(err)}
	}
	return c.exchange(ctx, k, request)
}

// versionsOf admission.k8s.io that we speak.
var reviewVersions = []string{"v1", "v1beta1"}

func (c *Config) exchange(ctx context.Context, k *call, request *admissionv1.AdmissionRequest) outcome {
	i := slices.IndexFunc(k.reviewVersions, func(v string) bool { return slices.Contains(reviewVersions, v) })
	if i < 0 {
		return outcome{asked: true, failure: errors.New("could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)")}
	}
	// The two versions have the same fields.
	version := "admission.k8s.io/" + k.reviewVersions[i]
	review := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: "AdmissionReview"}, Request: request}
	var answer admissionv1.AdmissionReview
	if err := c.Calls.Call(ctx, k.target, k.timeout, &review, &answer); err != nil {
		return outcome{asked: true, failure: fmt.Errorf("failed to call webhook: %w", err)}
	}
	r := answer.Response
	if err := k.verify(&review, &answer); err != nil {
		return outcome{asked: true, failure: fmt.Errorf("received invalid webhook response: %w", err)}
	}
	out := outcome{asked: true, warnings: r.Warnings, annotations: r.AuditAnnotations}
	switch {
	case !r.Allowed:
		out.refusal = denied(k.name, r.Result)
	case k.mutating:
		out.patch, out.patchType = r.Patch, admissionv1.PatchTypeJSONPatch
		if r.PatchType != nil && k.reviewVersions[i] == "v1" {
			out.patchType = *r.PatchType
		}
	}
	return out
}

// verify tells what is wrong with an answer. In v1beta1 hardly anything is.
func (k *call) verify(review, answer *admissionv1.AdmissionReview) error {
	r := answer.Response
	switch {
	case r == nil:
		return errors.New("webhook response was absent")
	case review.APIVersion != "admission.k8s.io/v1":
		if answer.APIVersion != "" && answer.APIVersion != review.APIVersion {
			return fmt.Errorf("expected webhook response of %s, got %s", review.APIVersion, answer.APIVersion)
		}
		return nil
	case r.UID != review.Request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case answer.GroupVersionKind() != review.GroupVersionKind():
		return fmt.Errorf("expected webhook response of %v, got %v", review.GroupVersionKind(), answer.GroupVersionKind())
	case !k.mutating && len(r.Patch) > 0:
		return errors.New("validating webhook may not return response.patch")
	case !k.mutating && r.PatchType != nil:
		return errors.New("validating webhook may not return response.patchType")
	case len(r.Patch) > 0 && r.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	case r.PatchType != nil && *r.PatchType == "":
		return errors.New(`webhook returned invalid response.patchType of ""`)
	}
	return nil
}

// denied is the hook's no as an API error: never a success code, always with the hook's name.
func denied(name string, result *metav1.Status) error {
	st := metav1.Status{}
	if result != nil {
		st = *result
	}
	if st.Code < http.StatusBadRequest {
		st.Code = http.StatusBadRequest
	}
	if st.Status == "" || st.Status == metav1.StatusSuccess {
		st.Status = metav1.StatusFailure
	}
	by := fmt.Sprintf("admission webhook %q denied the request", name)
	switch {
	case st.Message != "":
		st.Message = by + ": " + st.Message
	case st.Reason != "":
		st.Message = by + ": " + string(st.Reason)
	default:
		st.Message = by + " without explanation"
	}
	return &apierrors.StatusError{ErrStatus: st}
}

func newRequest(a *admission.Attributes, k *call, object, old runtime.Object) (*admissionv1.AdmissionRequest, error) {
	req := &admissionv1.AdmissionRequest{
		UID:                uid(),
		Kind:               metav1.GroupVersionKind(k.kind),
		Resource:           metav1.GroupVersionResource(k.resource),
		SubResource:        a.Subresource,
		RequestKind:        new(metav1.GroupVersionKind(a.Kind)),
		RequestResource:    new(metav1.GroupVersionResource(a.Resource)),
		RequestSubResource: a.Subresource,
		Name:               a.Name,
		Namespace:          a.Namespace,
		Operation:          admissionv1.Operation(a.Operation),
		UserInfo:           authenticationv1.UserInfo{Username: a.User.Name, UID: a.User.UID, Groups: a.User.Groups},
		DryRun:             new(a.DryRun),
	}
	if a.Operation == admission.Create && req.Name == "" {
		if m := a.Meta(); m != nil {
			req.Name = m.GetName()
		}
	}
	for key, v := range a.User.Extra {
		if req.UserInfo.Extra == nil {
			req.UserInfo.Extra = map[string]authenticationv1.ExtraValue{}
		}
		req.UserInfo.Extra[key] = v
	}
	var err error
	if req.Object.Raw, err = raw(object); err != nil {
		return nil, err
	}
	if req.OldObject.Raw, err = raw(old); err != nil {
		return nil, err
	}
	if a.Options != nil {
		options := a.Options.DeepCopyObject()
		if options.GetObjectKind().GroupVersionKind().Empty() {
			options.GetObjectKind().SetGroupVersionKind(optionsKind(options))
		}
		if req.Options.Raw, err = raw(options); err != nil {
			return nil, err
		}
	}
	return req, nil
}

func raw(obj runtime.Object) ([]byte, error) {
	if obj == nil {
		return nil, nil
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode object for webhook: %w", err)
	}
	return data, nil
}

func uid() types.UID {
	var b [16]byte
	// crypto/rand.Read never fails (it ends the process instead).
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
