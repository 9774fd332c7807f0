// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package configured

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/expr"
)

const typeWebhook = "Webhook"

// Bounds of a file.
const (
	maxConditions = 64
	maxTimeout    = 30 * time.Second
)

// configuration is a file that has been read, with its conditions compiled.
type configuration struct {
	file apiserverv1.AuthorizationConfiguration
	// conditions are parallel to the authorizers; nil for those that have none.
	conditions []*expr.Access
}

// parse reads, completes and judges a file. builtIn are the types besides Webhook. Messages are upstream's.
func parse(data []byte, compiler *expr.Compiler, builtIn []string) (*configuration, error) {
	c := &configuration{}
	if err := codec.DecodeFile(data, "AuthorizationConfiguration", codec.APIServerVersions, &c.file); err != nil {
		return nil, err
	}
	for i := range c.file.Authorizers {
		complete(c.file.Authorizers[i].Webhook)
	}
	if err := c.validate(compiler, builtIn).ToAggregate(); err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range c.file.Authorizers {
		if want := strings.ToLower(a.Type); a.Type != typeWebhook && a.Name != want {
			errs = append(errs, fmt.Errorf("expected name %s for authorizer %s instead of %s", want, a.Type, a.Name))
		}
	}
	return c, errors.Join(errs...)
}

func complete(w *apiserverv1.WebhookConfiguration) {
	if w == nil {
		return
	}
	if w.AuthorizedTTL.Duration == 0 {
		w.AuthorizedTTL.Duration = 5 * time.Minute
	}
	if w.UnauthorizedTTL.Duration == 0 {
		w.UnauthorizedTTL.Duration = 30 * time.Second
	}
	if w.CacheAuthorizedRequests == nil {
		w.CacheAuthorizedRequests = new(true)
	}
	if w.CacheUnauthorizedRequests == nil {
		w.CacheUnauthorizedRequests = new(true)
	}
}

func (c *configuration) validate(compiler *expr.Compiler, builtIn []string) field.ErrorList {
	var root *field.Path
	root = root.Child("authorizers")
	if len(c.file.Authorizers) == 0 {
		return field.ErrorList{field.Required(root, "at least one authorization mode must be defined")}
	}
	known := slices.Sorted(slices.Values(append(slices.Clone(builtIn), typeWebhook)))
	c.conditions = make([]*expr.Access, len(c.file.Authorizers))
	var errs field.ErrorList
	types, names := map[string]bool{}, map[string]bool{}
	for i, a := range c.file.Authorizers {
		at := root.Index(i)
		switch {
		case a.Type == "":
			errs = append(errs, field.Required(at.Child("type"), ""))
			continue
		case !slices.Contains(known, a.Type):
			errs = append(errs, field.NotSupported(at.Child("type"), a.Type, known))
			continue
		case types[a.Type] && a.Type != typeWebhook:
			errs = append(errs, field.Duplicate(at.Child("type"), a.Type))
			continue
		}
		types[a.Type] = true
		errs = append(errs, validateName(a.Name, names, at.Child("name"))...)
		switch {
		case a.Type != typeWebhook && a.Webhook != nil:
			errs = append(errs, field.Invalid(at.Child("webhook"), "non-null", "may only be specified when type=Webhook"))
		case a.Type == typeWebhook && a.Webhook == nil:
			errs = append(errs, field.Required(at.Child("webhook"), "required when type=Webhook"))
		case a.Type == typeWebhook:
			errs = append(errs, validateWebhook(a.Webhook, at)...)
			conditions, more := compile(compiler, a.Webhook.MatchConditions, at)
			c.conditions[i] = conditions
			errs = append(errs, more...)
		}
	}
	return errs
}

func validateName(name string, seen map[string]bool, at *field.Path) field.ErrorList {
	defer func() { seen[name] = true }()
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if seen[name] {
		return field.ErrorList{field.Duplicate(at, name)}
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return field.ErrorList{field.Invalid(at, name, "authorizer name is invalid: "+strings.Join(problems, ", "))}
	}
	return nil
}

// validateWebhook judges a webhook. Its fields are named without their parent, as upstream does.
func validateWebhook(w *apiserverv1.WebhookConfiguration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch d := w.Timeout.Duration; {
	case d == 0:
		errs = append(errs, field.Required(at.Child("timeout"), ""))
	case d > maxTimeout || d < 0:
		errs = append(errs, field.Invalid(at.Child("timeout"), d.String(), "must be > 0s and <= 30s"))
	}
	if d := w.AuthorizedTTL.Duration; d < 0 {
		errs = append(errs, field.Invalid(at.Child("authorizedTTL"), d.String(), "must be > 0s"))
	}
	if d := w.UnauthorizedTTL.Duration; d < 0 {
		errs = append(errs, field.Invalid(at.Child("unauthorizedTTL"), d.String(), "must be > 0s"))
	}
	errs = append(errs, oneOf(w.SubjectAccessReviewVersion, at.Child("subjectAccessReviewVersion"), "v1", "v1beta1")...)
	conditions := at.Child("matchConditionSubjectAccessReviewVersion")
	switch v := w.MatchConditionSubjectAccessReviewVersion; {
	case v == "" && len(w.MatchConditions) > 0:
		errs = append(errs, field.Required(conditions, "required if match conditions are specified"))
	case v != "":
		errs = append(errs, oneOf(v, conditions, "v1")...)
	}
	errs = append(errs, oneOf(w.FailurePolicy, at.Child("failurePolicy"), apiserverv1.FailurePolicyNoOpinion, apiserverv1.FailurePolicyDeny)...)
	return append(errs, validateConnection(&w.ConnectionInfo, at.Child("connectionInfo"))...)
}

func oneOf(value string, at *field.Path, values ...string) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(at, "")}
	case !slices.Contains(values, value):
		return field.ErrorList{field.NotSupported(at, value, values)}
	}
	return nil
}

func validateConnection(c *apiserverv1.WebhookConnectionInfo, at *field.Path) field.ErrorList {
	const byFile, inCluster = apiserverv1.AuthorizationWebhookConnectionInfoTypeKubeConfigFile, apiserverv1.AuthorizationWebhookConnectionInfoTypeInCluster
	file := at.Child("kubeConfigFile")
	switch c.Type {
	case byFile:
	case "":
		return field.ErrorList{field.Required(at.Child("type"), "")}
	case inCluster:
		return field.ErrorList{field.Invalid(at.Child("type"), c.Type, "an API server can't be its own webhook; only "+byFile+" is supported")}
	default:
		return field.ErrorList{field.NotSupported(at.Child("type"), *c, []string{inCluster, byFile})}
	}
	if c.KubeConfigFile == nil || *c.KubeConfigFile == "" {
		return field.ErrorList{field.Required(file, "")}
	}
	path := *c.KubeConfigFile
	if !filepath.IsAbs(path) {
		return field.ErrorList{field.Invalid(file, path, "must be an absolute path")}
	}
	switch info, err := os.Stat(path); {
	case err != nil:
		return field.ErrorList{field.Invalid(file, path, fmt.Sprintf("error loading file: %v", err))}
	case !info.Mode().IsRegular():
		return field.ErrorList{field.Invalid(file, path, "must be a regular file")}
	}
	return nil
}

func compile(compiler *expr.Compiler, list []apiserverv1.WebhookMatchCondition, parent *field.Path) (*expr.Access, field.ErrorList) {
	root := parent.Child("matchConditions")
	if len(list) > maxConditions {
		return nil, field.ErrorList{field.TooMany(root, len(list), maxConditions)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	out := &expr.Access{}
	for i, c := range list {
		at := root.Index(i).Child("expression")
		switch {
		case strings.TrimSpace(c.Expression) == "":
			errs = append(errs, field.Required(at, ""))
			continue
		case seen[c.Expression]:
			errs = append(errs, field.Duplicate(at, c.Expression))
			continue
		}
		seen[c.Expression] = true
		if err := compiler.AddAccess(out, c.Expression); err != nil {
			errs = append(errs, expr.FieldError(at, c.Expression, err))
		}
	}
	return out, errs
}

// builtIn lists the types of a file besides Webhook.
func (c *configuration) builtIn() []string {
	types := map[string]bool{}
	for _, a := range c.file.Authorizers {
		if a.Type != typeWebhook {
			types[a.Type] = true
		}
	}
	return slices.Sorted(maps.Keys(types))
}
