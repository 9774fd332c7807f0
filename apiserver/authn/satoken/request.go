// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package satoken

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/core"
)

// Bounds of a requested life time, in seconds.
const (
	minExpiration = 10 * 60
	maxExpiration = 1 << 32
)

// A pod's automatic token asks for exactly warnOnlyExpiration seconds; such tokens live for extendedExpiration, so that old
// clients that never re-read the file keep working, and their use after the asked time is noted (KEP-1205).
const (
	warnOnlyExpiration = 60*60 + 7
	extendedExpiration = 365 * 24 * 60 * 60
)

// Requests serves the token subresource of service accounts.
type Requests struct {
	Issuer *Issuer
	Reader admission.Reader
	// Audiences are used for requests that name none.
	Audiences []string
	// MaxExpiration bounds what is asked for; 0 means no bound.
	MaxExpiration time.Duration
	// NoExtension switches the extended life of pods' automatic tokens off.
	NoExtension bool
}

// Create answers a TokenRequest for a service account. validate, when not nil, runs validating admission on the completed
// request. obj belongs to the caller and is not changed.
func (h *Requests) Create(ctx context.Context, namespace, name string, obj runtime.Object, validate func(context.Context, runtime.Object) error) (runtime.Object, error) {
	in, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest: %T", obj))
	}
	req := in.DeepCopy()
	gk := schema.GroupKind{Group: "authentication.k8s.io", Kind: "TokenRequest"}
	if req.Name != "" && req.Name != name {
		return nil, apierrors.NewInvalid(gk, name, field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), req.Name, "must match the service account name if specified")})
	}
	if req.Namespace != "" && req.Namespace != namespace {
		return nil, apierrors.NewInvalid(gk, name, field.ErrorList{field.Invalid(field.NewPath("metadata", "namespace"), req.Namespace, "must match the service account namespace if specified")})
	}
	sa, err := must[*corev1.ServiceAccount](ctx, h.Reader, "serviceaccounts", namespace, name)
	if err != nil {
		return nil, err
	}
	if req.UID != "" && req.UID != sa.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: gk.Group, Resource: gk.Kind}, name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, sa.UID))
	}
	now := time.Now()
	h.complete(req, sa, now)
	if errs := ValidateTokenRequest(req); len(errs) > 0 {
		return nil, apierrors.NewInvalid(gk, "", errs)
	}
	if validate != nil {
		if err := validate(ctx, req.DeepCopy()); err != nil {
			return nil, err
		}
	}
	subject := Subject{Namespace: namespace, Name: name, UID: string(sa.UID), Audiences: req.Spec.Audiences}
	if err := h.bind(ctx, &subject, req.Spec.BoundObjectRef); err != nil {
		return nil, err
	}
	h.life(ctx, &subject, req)
	token, id, err := h.Issuer.Issue(subject, now)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if s := request.From(ctx); s != nil {
		s.Annotate("authentication.kubernetes.io/issued-credential-id", "JTI="+id)
	}
	req.Status = authenticationv1.TokenRequestStatus{
		Token:               token,
		ExpirationTimestamp: metav1.NewTime(now.Add(time.Duration(*req.Spec.ExpirationSeconds) * time.Second)),
	}
	req.SetGroupVersionKind(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"))
	return req, nil
}

func (h *Requests) complete(req *authenticationv1.TokenRequest, sa *corev1.ServiceAccount, now time.Time) {
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = slices.Clone(h.Audiences)
	}
	if req.Spec.ExpirationSeconds == nil {
		req.Spec.ExpirationSeconds = new(int64(core.TokenSeconds))
	}
	req.Name, req.Namespace, req.UID = sa.Name, sa.Namespace, sa.UID
	req.CreationTimestamp = metav1.NewTime(now)
	req.Status = authenticationv1.TokenRequestStatus{}
}

// ValidateTokenRequest checks what stands in a request.
func ValidateTokenRequest(req *authenticationv1.TokenRequest) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "expirationSeconds")
	seconds := int64(core.TokenSeconds)
	if req.Spec.ExpirationSeconds != nil {
		seconds = *req.Spec.ExpirationSeconds
	}
	if seconds < minExpiration {
		errs = append(errs, field.Invalid(path, seconds, "may not specify a duration less than 10 minutes"))
	}
	if seconds > maxExpiration {
		errs = append(errs, field.Invalid(path, seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

// bind looks up the object that the token is to die with and puts it into the subject.
func (h *Requests) bind(ctx context.Context, s *Subject, ref *authenticationv1.BoundObjectReference) error {
	if ref == nil {
		return nil
	}
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	var target kinds.Object
	var err error
	switch {
	case gvk.Group == "" && gvk.Kind == "Pod":
		var pod *corev1.Pod
		if pod, err = must[*corev1.Pod](ctx, h.Reader, "pods", s.Namespace, ref.Name); err != nil {
			return err
		}
		if pod.Spec.ServiceAccountName != s.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", s.Name))
		}
		if s.Node, err = h.nodeOf(ctx, pod); err != nil {
			return err
		}
		s.Pod, target = &Bound{Name: pod.Name, UID: string(pod.UID)}, pod
	case gvk.Group == "" && gvk.Kind == "Node":
		var node *corev1.Node
		if node, err = must[*corev1.Node](ctx, h.Reader, "nodes", "", ref.Name); err != nil {
			return err
		}
		s.Node, target = &Bound{Name: node.Name, UID: string(node.UID)}, node
	case gvk.Group == "" && gvk.Kind == "Secret":
		var secret *corev1.Secret
		if secret, err = must[*corev1.Secret](ctx, h.Reader, "secrets", s.Namespace, ref.Name); err != nil {
			return err
		}
		s.Secret, target = &Bound{Name: secret.Name, UID: string(secret.UID)}, secret
	default:
		return apierrors.NewBadRequest("cannot bind token to object of type " + gvk.String())
	}
	if ref.UID != "" && target.GetUID() != ref.UID {
		return apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return nil
}

// nodeOf returns the pod's node; one that is not there any more is named without a UID.
func (h *Requests) nodeOf(ctx context.Context, pod *corev1.Pod) (*Bound, error) {
	if pod.Spec.NodeName == "" {
		return nil, nil // an unscheduled pod has no node, which is no error
	}
	node, found, err := admission.GetAny[*corev1.Node](ctx, h.Reader, resource("nodes"), "", pod.Spec.NodeName)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if !found {
		return &Bound{Name: pod.Spec.NodeName}, nil
	}
	return &Bound{Name: node.Name, UID: string(node.UID)}, nil
}

// life sets how long the token lives; the request keeps what the client shall believe.
func (h *Requests) life(ctx context.Context, s *Subject, req *authenticationv1.TokenRequest) {
	if limit := int64(h.MaxExpiration / time.Second); limit > 0 && *req.Spec.ExpirationSeconds > limit {
		if state := request.From(ctx); state != nil {
			state.Warn("requested expiration of " + strconv.FormatInt(*req.Spec.ExpirationSeconds, 10) + " seconds shortened to " + strconv.FormatInt(limit, 10) + " seconds")
		}
		*req.Spec.ExpirationSeconds = limit
	}
	s.Valid = time.Duration(*req.Spec.ExpirationSeconds) * time.Second
	ours := !slices.ContainsFunc(s.Audiences, func(a string) bool { return !slices.Contains(h.Audiences, a) })
	if !h.NoExtension && s.Pod != nil && *req.Spec.ExpirationSeconds == warnOnlyExpiration && ours {
		s.WarnAfter, s.Valid = s.Valid, extendedExpiration*time.Second
	}
}

// must reads an object that has to exist, from the cache or, when it is missing there, from the store.
func must[T kinds.Object](ctx context.Context, r admission.Reader, plural, namespace, name string) (T, error) {
	if name == "" {
		return *new(T), apierrors.NewBadRequest("Name parameter required.")
	}
	obj, found, err := admission.GetAny[T](ctx, r, resource(plural), namespace, name)
	if err == nil && !found {
		err = apierrors.NewNotFound(resource(plural), name)
	}
	return obj, err
}
