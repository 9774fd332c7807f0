// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package aggregation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/apiserver/aggregation/route"
	"kogge.dev/kogge/apiserver/request"
)

// checkTimeout bounds one question to a remote server by us.
const checkTimeout = 5 * time.Second

// maxDocument bounds a discovery or OpenAPI document of a remote server.
const maxDocument = 32 << 20

// remote is the server behind one APIService.
type remote struct {
	name      string
	spec      apiregistrationv1.APIServiceSpec
	host      string
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	routes    *route.Resolver
	available atomic.Bool
	found     atomic.Pointer[findings]
}

func newRemote(svc *apiregistrationv1.APIService, routes *route.Resolver, certificate func() (*tls.Certificate, error)) (*remote, error) {
	ref := svc.Spec.Service
	port := int32(443)
	if ref.Port != nil {
		port = *ref.Port
	}
	name := ref.Name + "." + ref.Namespace + ".svc"
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, InsecureSkipVerify: svc.Spec.InsecureSkipTLSVerify} // The APIService asks for it.
	if len(svc.Spec.CABundle) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(svc.Spec.CABundle) {
			return nil, errors.New("spec.caBundle has no usable certificate")
		}
	}
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate() }
	}
	r := &remote{name: svc.Name, spec: *svc.Spec.DeepCopy(), host: net.JoinHostPort(name, strconv.Itoa(int(port))), routes: routes}
	r.transport = &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: checkTimeout, MaxIdleConnsPerHost: 25,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return routes.Dial(ctx, ref.Namespace, ref.Name, port)
		},
	}
	r.proxy = &httputil.ReverseProxy{
		Rewrite: r.rewrite, Transport: r.transport, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			writeStatus(w, apierrors.NewServiceUnavailable("error trying to reach service: "+err.Error()))
		},
	}
	return r, nil
}

func (r *remote) close() { r.transport.CloseIdleConnections() }

// ServeHTTP passes a request on. It must have been authenticated and authorized.
func (r *remote) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !r.available.Load() {
		writeStatus(w, apierrors.NewServiceUnavailable("service unavailable"))
		return
	}
	r.proxy.ServeHTTP(w, req)
}

// rewrite replaces credentials by the name of who they proved.
func (r *remote) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "https", r.host, r.host
	p.Out.Header.Del("Authorization")
	for h := range p.Out.Header {
		if strings.HasPrefix(strings.ToLower(h), "x-remote-") {
			p.Out.Header.Del(h)
		}
	}
	if s := request.From(p.In.Context()); s != nil {
		identify(p.Out.Header, &s.User)
		if s.AuditID != "" {
			p.Out.Header.Set("Audit-ID", s.AuditID)
		}
	}
	p.SetXForwarded()
}

// identify writes a user into the front proxy's headers.
func identify(h http.Header, u *request.User) {
	h.Set("X-Remote-User", u.Name)
	if u.UID != "" {
		h.Set("X-Remote-Uid", u.UID)
	}
	for _, g := range u.Groups {
		h.Add("X-Remote-Group", g)
	}
	for k, values := range u.Extra {
		for _, v := range values {
			h.Add("X-Remote-Extra-"+escapeKey(k), v)
		}
	}
}

// escapeKey percent-encodes what may not stand in a header name.
func escapeKey(key string) string {
	var b strings.Builder
	for i := range len(key) {
		c := key[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$&'*+-.^_`|~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func writeStatus(w http.ResponseWriter, err *apierrors.StatusError) {
	st := err.Status()
	st.APIVersion, st.Kind = "v1", "Status"
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(st.Code))
	_ = json.NewEncoder(w).Encode(st) // a client that went away is its own affair
}

// check judges whether the server can be reached, in upstream's terms.
func (r *remote) check(ctx context.Context) apiregistrationv1.APIServiceCondition {
	ref := r.spec.Service
	port := int32(443)
	if ref.Port != nil {
		port = *ref.Port
	}
	where := fmt.Sprintf("service/%s in %q", ref.Name, ref.Namespace)
	_, err := r.routes.Resolve(ctx, ref.Namespace, ref.Name, port)
	switch {
	case err == nil:
	case strings.HasSuffix(err.Error(), "not found"):
		return condition(apiregistrationv1.ConditionFalse, "ServiceNotFound", where+" is not present")
	case strings.HasPrefix(err.Error(), "no service port"):
		return condition(apiregistrationv1.ConditionFalse, "ServicePortError", fmt.Sprintf("%s is not listening on port %d", where, port))
	case strings.HasPrefix(err.Error(), "no endpoints"):
		return condition(apiregistrationv1.ConditionFalse, "MissingEndpoints", fmt.Sprintf("endpointslices for %s have no addresses", where))
	default:
		return condition(apiregistrationv1.ConditionFalse, "ServiceAccessError", where+" cannot be checked due to: "+err.Error())
	}
	path := "/apis/" + r.spec.Group + "/" + r.spec.Version
	if _, code, err := r.get(ctx, path, "application/json"); err != nil || code < 200 || code > 299 {
		text := fmt.Sprintf("failing or missing response from https://%s%s: bad status from https://%s%s: %d", r.host, path, r.host, path, code)
		if err != nil {
			text = fmt.Sprintf("failing or missing response from https://%s%s: %v", r.host, path, err)
		}
		return condition(apiregistrationv1.ConditionFalse, "FailedDiscoveryCheck", text)
	}
	return condition(apiregistrationv1.ConditionTrue, "Passed", "all checks passed")
}

// get asks the server as the aggregator itself.
func (r *remote) get(ctx context.Context, path, accept string) (body []byte, code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	u := url.URL{Scheme: "https", Host: r.host, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", accept)
	identify(req.Header, &request.User{Name: "system:kube-aggregator", Groups: []string{request.GroupMasters}})
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	return body, resp.StatusCode, err
}
