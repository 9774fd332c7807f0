// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/client-go/util/cert"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/expr"
)

// maxIssuers bounds the issuers of one file.
const maxIssuers = 64

// configuration is a file that has been read, with its expressions compiled.
type configuration struct {
	file    apiserverv1.AuthenticationConfiguration
	issuers []*rules
}

// rules are what one entry of "jwt" says.
type rules struct {
	jwt apiserverv1.JWTAuthenticator
	// roots are trusted when the issuer is asked; nil means those of the machine.
	roots *x509.CertPool
	// Expressions, nil or empty where the file has none. extra is parallel to jwt.ClaimMappings.Extra.
	username, groups, uid *expr.Claim
	extra                 []*expr.Claim
	claimRules, userRules []rule
}

// rule is a condition with what to say when it does not hold.
type rule struct {
	expression, message string
	condition           *expr.Claim
}

// parse reads a file. Tokens of the disallowed issuers are somebody else's.
func parse(data []byte, compiler *expr.Compiler, disallowed []string) (*configuration, error) {
	c := &configuration{}
	if err := codec.DecodeFile(data, "AuthenticationConfiguration", codec.APIServerVersions, &c.file); err != nil {
		return nil, err
	}
	v := validator{compiler: compiler, disallowed: disallowed}
	if err := v.configuration(c).ToAggregate(); err != nil {
		return nil, err
	}
	return c, nil
}

// validator judges a file and compiles its expressions on the way. Messages are upstream's.
type validator struct {
	compiler   *expr.Compiler
	disallowed []string
}

func (v *validator) configuration(c *configuration) field.ErrorList {
	root := field.NewPath("jwt")
	if len(c.file.JWT) > maxIssuers {
		return field.ErrorList{field.TooMany(root, len(c.file.JWT), maxIssuers)}
	}
	var errs field.ErrorList
	issuers, discoveries := map[string]bool{}, map[string]bool{}
	for i, jwt := range c.file.JWT {
		at := root.Index(i)
		r := &rules{jwt: jwt}
		errs = append(errs, v.issuer(r, at.Child("issuer"))...)
		errs = append(errs, v.claimRules(r, at.Child("claimValidationRules"))...)
		errs = append(errs, v.mappings(r, at.Child("claimMappings"))...)
		errs = append(errs, v.userRules(r, at.Child("userValidationRules"))...)
		if issuers[jwt.Issuer.URL] {
			errs = append(errs, field.Duplicate(at.Child("issuer", "url"), jwt.Issuer.URL))
		}
		issuers[jwt.Issuer.URL] = true
		if d := jwt.Issuer.DiscoveryURL; d != nil && *d != "" {
			if discoveries[*d] {
				errs = append(errs, field.Duplicate(at.Child("issuer", "discoveryURL"), *d))
			}
			discoveries[*d] = true
		}
		c.issuers = append(c.issuers, r)
	}
	if a := c.file.Anonymous; a != nil && !a.Enabled && len(a.Conditions) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("anonymous", "conditions"), a.Conditions, "enabled should be set to true when conditions are defined"))
	}
	return errs
}

func (v *validator) issuer(r *rules, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	issuer := &r.jwt.Issuer
	if issuer.URL == "" {
		errs = append(errs, field.Required(at.Child("url"), ""))
	} else {
		if slices.Contains(v.disallowed, issuer.URL) {
			errs = append(errs, field.Invalid(at.Child("url"), issuer.URL, fmt.Sprintf("URL must not overlap with disallowed issuers: %s", v.disallowed)))
		}
		errs = append(errs, validateURL(issuer.URL, at.Child("url"))...)
	}
	if issuer.DiscoveryURL != nil && *issuer.DiscoveryURL != "" {
		d := *issuer.DiscoveryURL
		if issuer.URL != "" && strings.TrimRight(issuer.URL, "/") == strings.TrimRight(d, "/") {
			errs = append(errs, field.Invalid(at.Child("discoveryURL"), d, "discoveryURL must be different from URL"))
		}
		errs = append(errs, validateURL(d, at.Child("discoveryURL"))...)
	}
	errs = append(errs, validateAudiences(issuer, at)...)
	if issuer.CertificateAuthority != "" {
		roots, err := cert.NewPoolFromBytes([]byte(issuer.CertificateAuthority))
		if err != nil {
			errs = append(errs, field.Invalid(at.Child("certificateAuthority"), "<omitted>", err.Error()))
		}
		r.roots = roots
	}
	if issuer.EgressSelectorType != "" {
		errs = append(errs, field.Invalid(at.Child("egressSelectorType"), issuer.EgressSelectorType, "egress selectors are not supported"))
	}
	return errs
}

func validateURL(text string, at *field.Path) field.ErrorList {
	u, err := url.Parse(text)
	if err != nil {
		return field.ErrorList{field.Invalid(at, text, err.Error())}
	}
	var errs field.ErrorList
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(at, text, "URL scheme must be https"))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(at, text, "URL must not contain a username or password"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(at, text, "URL must not contain a query"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(at, text, "URL must not contain a fragment"))
	}
	return errs
}

func validateAudiences(issuer *apiserverv1.Issuer, parent *field.Path) field.ErrorList {
	at := parent.Child("audiences")
	if len(issuer.Audiences) == 0 {
		return field.ErrorList{field.Required(at, fmt.Sprintf("at least one %s is required", at))}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, audience := range issuer.Audiences {
		if audience == "" {
			errs = append(errs, field.Required(at.Index(i), ""))
		}
		if seen[audience] {
			errs = append(errs, field.Duplicate(at.Index(i), audience))
		}
		seen[audience] = true
	}
	policy := issuer.AudienceMatchPolicy
	switch {
	case policy == apiserverv1.AudienceMatchPolicyMatchAny:
	case len(issuer.Audiences) > 1:
		errs = append(errs, field.Invalid(parent.Child("audienceMatchPolicy"), policy, "audienceMatchPolicy must be MatchAny for multiple audiences"))
	case policy != "":
		errs = append(errs, field.Invalid(parent.Child("audienceMatchPolicy"), policy, "audienceMatchPolicy must be empty or MatchAny for single audience"))
	}
	return errs
}

func (v *validator) claimRules(r *rules, root *field.Path) field.ErrorList {
	var errs field.ErrorList
	claims, expressions := map[string]bool{}, map[string]bool{}
	for i, rule := range r.jwt.ClaimValidationRules {
		at := root.Index(i)
		switch {
		case rule.Claim != "" && rule.Expression != "":
			errs = append(errs, field.Invalid(at, rule.Claim, "claim and expression can't both be set"))
		case rule.Claim == "" && rule.Expression == "":
			errs = append(errs, field.Required(at, "claim or expression is required"))
		case rule.Claim != "":
			if rule.Message != "" {
				errs = append(errs, field.Invalid(at.Child("message"), rule.Message, "may not be specified when claim is set"))
			}
			if claims[rule.Claim] {
				errs = append(errs, field.Duplicate(at.Child("claim"), rule.Claim))
			}
			claims[rule.Claim] = true
		default:
			if rule.RequiredValue != "" {
				errs = append(errs, field.Invalid(at.Child("requiredValue"), rule.RequiredValue, "may not be specified when expression is set"))
			}
			errs = append(errs, addRule(&r.claimRules, expressions, rule.Expression, rule.Message, v.compiler.ClaimRule, at.Child("expression"))...)
		}
	}
	return errs
}

func (v *validator) userRules(r *rules, root *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, rule := range r.jwt.UserValidationRules {
		at := root.Index(i).Child("expression")
		if rule.Expression == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		errs = append(errs, addRule(&r.userRules, seen, rule.Expression, rule.Message, v.compiler.UserRule, at)...)
	}
	return errs
}

func addRule(to *[]rule, seen map[string]bool, expression, message string, compile func(string) (*expr.Claim, error), at *field.Path) field.ErrorList {
	if seen[expression] {
		return field.ErrorList{field.Duplicate(at, expression)}
	}
	seen[expression] = true
	compiled, errs := compileAt(compile, expression, at)
	if compiled != nil {
		*to = append(*to, rule{expression: expression, message: message, condition: compiled})
	}
	return errs
}

func compileAt(compile func(string) (*expr.Claim, error), expression string, at *field.Path) (*expr.Claim, field.ErrorList) {
	compiled, err := compile(expression)
	if err != nil {
		return nil, field.ErrorList{expr.FieldError(at, expression, err)}
	}
	return compiled, nil
}

func (v *validator) mappings(r *rules, at *field.Path) field.ErrorList {
	m := &r.jwt.ClaimMappings
	var errs, more field.ErrorList
	r.username, more = v.prefixed(&m.Username, at.Child("username"))
	errs = append(errs, more...)
	if m.Username.Claim == "" && m.Username.Expression == "" {
		errs = append(errs, field.Required(at.Child("username"), "claim or expression is required"))
	}
	r.groups, more = v.prefixed(&m.Groups, at.Child("groups"))
	errs = append(errs, more...)
	switch {
	case m.UID.Claim != "" && m.UID.Expression != "":
		errs = append(errs, field.Invalid(at.Child("uid"), "", "claim and expression can't both be set"))
	case m.UID.Expression != "":
		r.uid, more = compileAt(v.compiler.ClaimValue, m.UID.Expression, at.Child("uid", "expression"))
		errs = append(errs, more...)
	}
	errs = append(errs, v.extra(r, at.Child("extra"))...)
	if r.username != nil && r.username.Uses("email") && !r.checksEmail() {
		errs = append(errs, field.Invalid(at.Child("username", "expression"), m.Username.Expression,
			"claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or "+
				"claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression"))
	}
	return errs
}

// checksEmail reports whether any expression looks at email_verified.
func (r *rules) checksEmail() bool {
	const claim = "email_verified"
	return r.username.Uses(claim) || slices.ContainsFunc(r.extra, func(c *expr.Claim) bool { return c != nil && c.Uses(claim) }) ||
		slices.ContainsFunc(r.claimRules, func(r rule) bool { return r.condition.Uses(claim) })
}

func (v *validator) prefixed(m *apiserverv1.PrefixedClaimOrExpression, at *field.Path) (*expr.Claim, field.ErrorList) {
	switch {
	case m.Expression != "" && m.Claim != "":
		return nil, field.ErrorList{field.Invalid(at, "", "claim and expression can't both be set")}
	case m.Expression != "":
		compiled, errs := compileAt(v.compiler.ClaimValue, m.Expression, at.Child("expression"))
		if m.Prefix != nil {
			errs = append(field.ErrorList{field.Invalid(at.Child("prefix"), *m.Prefix, "may not be specified when expression is set")}, errs...)
		}
		return compiled, errs
	case m.Claim != "" && m.Prefix == nil:
		return nil, field.ErrorList{field.Required(at.Child("prefix"), "prefix is required when claim is set. It can be set to an empty string to disable prefixing")}
	}
	return nil, nil
}

func (v *validator) extra(r *rules, root *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, m := range r.jwt.ClaimMappings.Extra {
		at := root.Index(i)
		r.extra = append(r.extra, nil)
		errs = append(errs, validation.IsDomainPrefixedPath(at.Child("key"), m.Key)...)
		if m.Key != strings.ToLower(m.Key) {
			errs = append(errs, field.Invalid(at.Child("key"), m.Key, "must be lowercase"))
		}
		if reserved(m.Key) {
			errs = append(errs, field.Invalid(at.Child("key"), m.Key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"))
		}
		if seen[m.Key] {
			errs = append(errs, field.Duplicate(at.Child("key"), m.Key))
			continue
		}
		seen[m.Key] = true
		if m.ValueExpression == "" {
			errs = append(errs, field.Required(at.Child("valueExpression"), ""))
			continue
		}
		compiled, more := compileAt(v.compiler.ClaimValue, m.ValueExpression, at.Child("valueExpression"))
		r.extra[i] = compiled
		errs = append(errs, more...)
	}
	return errs
}

// reserved reports whether a key lies in a domain of Kubernetes.
func reserved(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	return ok && slices.ContainsFunc([]string{"k8s.io", "kubernetes.io"}, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) })
}
