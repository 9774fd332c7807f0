// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package csrapproving approves the certificate requests that need no human: kubelets' client certificates, as far as the
// requester may create them (subresources nodeclient and selfnodeclient), and what a node that has joined needs besides: its
// serving certificate and the client certificate of its Service proxy.
package csrapproving

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/csr"
)

// proxyUser is whose certificate a node may ask for besides its own.
const proxyUser = "system:kube-proxy"

type controller struct {
	reconcile.Scope
	requests *client.Informer[*certificatesv1.CertificateSigningRequest]
	nodes    *client.Informer[*corev1.Node]
	api      client.Resource[*certificatesv1.CertificateSigningRequest]
	reviews  client.Resource[*authorizationv1.SubjectAccessReview]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, requests: client.InformerFor[*certificatesv1.CertificateSigningRequest](scope.Informers),
		nodes:   client.InformerFor[*corev1.Node](scope.Informers),
		api:     client.Of[*certificatesv1.CertificateSigningRequest](scope.Client),
		reviews: client.Of[*authorizationv1.SubjectAccessReview](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "certificatesigningrequest-approving-controller", Log: scope.Log, Workers: 2, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.requests)
	// A node's serving certificate may wait for its Node object to name the addresses.
	reconcile.On(loop, c.nodes, func(node *corev1.Node) []reconcile.Key {
		var keys []reconcile.Key
		for r := range c.requests.All() {
			if r.Spec.Username == csr.NodePrefix+node.Name && r.Spec.SignerName == certificatesv1.KubeletServingSignerName && undecided(r) {
				keys = append(keys, reconcile.KeyOf(r))
			}
		}
		return keys
	})
	return loop
}

func undecided(r *certificatesv1.CertificateSigningRequest) bool {
	return len(r.Status.Certificate) == 0 && !csr.Has(r, certificatesv1.CertificateApproved) && !csr.Has(r, certificatesv1.CertificateDenied)
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	r, ok := c.requests.Get("", key.Name)
	if !ok || !undecided(r) {
		return nil
	}
	req, err := csr.Parse(r)
	if err != nil {
		return reconcile.Terminal(fmt.Errorf("request %s: %w", key.Name, err))
	}
	switch r.Spec.SignerName {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return c.kubeletClient(ctx, r, req)
	case certificatesv1.KubeletServingSignerName:
		if c.ownServing(r, req) {
			return c.approve(ctx, r, "Auto approving kubelet serving certificate for the node's own names and addresses.")
		}
	case certificatesv1.KubeAPIServerClientSignerName:
		if proxyOfNode(r, req) {
			return c.approve(ctx, r, "Auto approving the Service proxy's client certificate for a node.")
		}
	}
	return nil
}

// kubeletClient approves by asking whether the requester may have such a certificate.
func (c *controller) kubeletClient(ctx context.Context, r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest) error {
	if csr.JudgeKubeletClient(req, r.Spec.Usages) != nil {
		return nil //nolint:nilerr // not a request of this kind: somebody else's
	}
	if r.Spec.Username == req.Subject.CommonName {
		if ok, err := c.may(ctx, r, "selfnodeclient"); err != nil || ok {
			return firstOf(err, func() error {
				return c.approve(ctx, r, "Auto approving self kubelet client certificate after SubjectAccessReview.")
			})
		}
	}
	ok, err := c.may(ctx, r, "nodeclient")
	if err == nil && !ok {
		// The permission may be granted a little later; the back-off asks again.
		err = fmt.Errorf("request %s: %s may not have a kubelet's client certificate", r.Name, r.Spec.Username)
	}
	return firstOf(err, func() error {
		return c.approve(ctx, r, "Auto approving kubelet client certificate after SubjectAccessReview.")
	})
}

func firstOf(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

func (c *controller) may(ctx context.Context, r *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range r.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review, err := c.reviews.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: certificatesv1.GroupName, Version: "*", Resource: "certificatesigningrequests", Subresource: subresource, Verb: "create",
		},
	}})
	if err != nil {
		return false, fmt.Errorf("review request %s: %w", r.Name, err)
	}
	return review.Status.Allowed, nil
}

// ownServing reports whether a node asks for a serving certificate in its own name. Once its Node object exists, that says
// which names and addresses are its own; before, only the name itself is known, and addresses are the node's word.
func (c *controller) ownServing(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest) bool {
	if csr.JudgeKubeletServing(req, r.Spec.Usages) != nil || r.Spec.Username != req.Subject.CommonName || !slices.Contains(r.Spec.Groups, csr.NodeGroup) {
		return false
	}
	name := strings.TrimPrefix(r.Spec.Username, csr.NodePrefix)
	names, addresses := map[string]bool{name: true}, map[string]bool{}
	node, exists := c.nodes.Get("", name)
	if exists {
		for _, a := range node.Status.Addresses {
			switch a.Type {
			case corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeExternalDNS:
				names[a.Address] = true
			case corev1.NodeInternalIP, corev1.NodeExternalIP:
				if ip := net.ParseIP(a.Address); ip != nil {
					addresses[ip.String()] = true
				}
			}
		}
	}
	known := exists && len(node.Status.Addresses) > 0
	foreignName := slices.ContainsFunc(req.DNSNames, func(n string) bool { return !names[n] })
	foreignAddress := known && slices.ContainsFunc(req.IPAddresses, func(ip net.IP) bool { return !addresses[ip.String()] })
	return !foreignName && !foreignAddress
}

// proxyOfNode reports whether a node asks for exactly the Service proxy's identity.
func proxyOfNode(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest) bool {
	plain := len(req.Subject.Organization) == 0 && len(req.DNSNames) == 0 && len(req.IPAddresses) == 0 &&
		len(req.EmailAddresses) == 0 && len(req.URIs) == 0
	return plain && req.Subject.CommonName == proxyUser && slices.Contains(r.Spec.Groups, csr.NodeGroup)
}

func (c *controller) approve(ctx context.Context, r *certificatesv1.CertificateSigningRequest, message string) error {
	next := r.DeepCopy()
	next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: message,
	})
	if _, err := c.api.UpdateSub(ctx, "approval", next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("approve request %s: %w", r.Name, err)
	}
	return nil
}
