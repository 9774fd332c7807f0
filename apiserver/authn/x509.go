// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"kogge.dev/kogge/apiserver/request"
)

// uidOID is the subject attribute that may carry a user's UID (upstream's "kubernetes" enterprise number, .2).
const uidOID = "1.3.6.1.4.1.57683.2"

// X509 recognises users by client certificate: common name is the user, organizations are the groups.
type X509 struct {
	// Roots returns the client CAs of the moment; nil roots recognise nobody.
	Roots func() *x509.CertPool

	peers peers
}

// Authenticate implements Authenticator.
func (x *X509) Authenticate(r *http.Request) (*request.User, bool, error) {
	leaf, err := x.peers.verify(r, x.Roots())
	if leaf == nil || err != nil {
		return nil, false, err
	}
	if leaf.Subject.CommonName == "" {
		return nil, false, nil
	}
	sum := sha256.Sum256(leaf.Raw)
	user := &request.User{
		Name:   leaf.Subject.CommonName,
		Groups: leaf.Subject.Organization,
		Extra:  map[string][]string{CredentialIDKey: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}
	for _, name := range leaf.Subject.Names {
		if name.Type.String() != uidOID {
			continue
		}
		uid, ok := name.Value.(string)
		if !ok || uid == "" {
			return nil, false, fmt.Errorf("certificate of %q: UID attribute is not a text", user.Name)
		}
		if user.UID != "" {
			return nil, false, fmt.Errorf("certificate of %q has more than one UID attribute", user.Name)
		}
		user.UID = uid
	}
	return user, true, nil
}

// FrontProxy recognises users named in headers by a proxy (kubectl's aggregation front, another API server) that proves
// itself with a certificate of a CA of its own.
type FrontProxy struct {
	// Roots returns the request header CAs; nil recognises nobody.
	Roots func() *x509.CertPool
	// AllowedNames are the common names that may act as proxy; empty means any.
	AllowedNames []string
	// Header names; empty slices mean the usual X-Remote-User, X-Remote-Uid, X-Remote-Group, X-Remote-Extra-.
	UserHeaders, UIDHeaders, GroupHeaders, ExtraPrefixes []string

	peers peers
}

// Authenticate implements Authenticator. It removes the headers that it believed, so that they can't reach a backend.
func (f *FrontProxy) Authenticate(r *http.Request) (*request.User, bool, error) {
	users := orDefault(f.UserHeaders, "X-Remote-User")
	name := firstHeader(r.Header, users)
	if name == "" {
		return nil, false, nil
	}
	leaf, err := f.peers.verify(r, f.Roots())
	if leaf == nil {
		// Not our proxy's certificate: the headers prove nothing, the certificate may still name a user.
		return nil, false, nil // the X509 authenticator reports a bad certificate
	}
	if err != nil {
		return nil, false, err
	}
	if !nameAllowed(f.AllowedNames, leaf.Subject.CommonName) {
		return nil, false, nil
	}
	uids, groups, extras := orDefault(f.UIDHeaders, "X-Remote-Uid"), orDefault(f.GroupHeaders, "X-Remote-Group"), orDefault(f.ExtraPrefixes, "X-Remote-Extra-")
	user := &request.User{Name: name, UID: firstHeader(r.Header, uids)}
	for _, h := range groups {
		user.Groups = append(user.Groups, r.Header.Values(h)...)
	}
	user.Extra = extraHeaders(r.Header, extras)
	for _, list := range [][]string{users, uids, groups} {
		for _, h := range list {
			r.Header.Del(h)
		}
	}
	for h := range r.Header {
		if hasAnyPrefixFold(h, extras) {
			r.Header.Del(h)
		}
	}
	return user, true, nil
}

func orDefault(list []string, name string) []string {
	if len(list) == 0 {
		return []string{name}
	}
	return list
}

func firstHeader(h http.Header, names []string) string {
	for _, name := range names {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

func nameAllowed(allowed []string, name string) bool {
	if len(allowed) == 0 {
		return true
	}
	return slices.Contains(allowed, name)
}

func hasAnyPrefixFold(h string, prefixes []string) bool {
	for _, p := range prefixes {
		if len(h) >= len(p) && strings.EqualFold(h[:len(p)], p) {
			return true
		}
	}
	return false
}

// extraHeaders collects PREFIX<key> headers; keys are lower-cased and percent-decoded, as upstream writes them.
func extraHeaders(h http.Header, prefixes []string) map[string][]string {
	out := map[string][]string{}
	for _, p := range prefixes {
		for name, values := range h {
			if len(name) <= len(p) || !strings.EqualFold(name[:len(p)], p) {
				continue
			}
			key := unescapeExtraKey(strings.ToLower(name[len(p):]))
			out[key] = append(out[key], values...)
		}
	}
	return out
}
