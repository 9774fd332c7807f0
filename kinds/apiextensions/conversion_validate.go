// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"net/url"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds/check"
)

func isURL(text string) bool {
	u, err := url.ParseRequestURI(text)
	return err == nil && u.Host != "" && u.Scheme != ""
}

// reviewVersions are the versions of ConversionReview that this server speaks.
func reviewVersions() []string { return []string{"v1", "v1beta1"} }

// validateConversion names fields as the first version of the API did: findings have always come so.
func validateConversion(c *apiextensionsv1.CustomResourceConversion, r rules, path *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := check.OneOf(c.Strategy, path.Child("strategy"), apiextensionsv1.NoneConverter, apiextensionsv1.WebhookConverter)
	client, versions := (*apiextensionsv1.WebhookClientConfig)(nil), []string(nil)
	if c.Webhook != nil {
		client, versions = c.Webhook.ClientConfig, c.Webhook.ConversionReviewVersions
	}
	atClient, atVersions := path.Child("webhookClientConfig"), path.Child("conversionReviewVersions")
	if c.Strategy != apiextensionsv1.WebhookConverter {
		const unused = "should not be set when strategy is not set to Webhook"
		if client != nil {
			errs = append(errs, field.Forbidden(atClient, unused))
		}
		if len(versions) > 0 {
			errs = append(errs, field.Forbidden(atVersions, unused))
		}
		return errs
	}
	errs = append(errs, validateClient(client, atClient)...)
	return append(errs, validateReviewVersions(versions, r, atVersions)...)
}

func validateClient(c *apiextensionsv1.WebhookClientConfig, path *field.Path) field.ErrorList {
	switch {
	case c == nil:
		return field.ErrorList{field.Required(path, "required when strategy is set to Webhook")}
	case (c.URL == nil) == (c.Service == nil):
		return field.ErrorList{field.Required(path, "exactly one of url or service is required")}
	case c.URL != nil:
		return check.WebhookURL(*c.URL, path.Child("url"))
	}
	// Clients have always been told of a missing name under namespace, and of a missing namespace under name.
	service := check.WebhookService{
		Namespace: c.Service.Name, Name: c.Service.Namespace, Path: c.Service.Path, Port: ptr.Deref(c.Service.Port, webhookPort),
	}
	return service.Validate(path.Child("service"))
}

func validateReviewVersions(versions []string, r rules, path *field.Path) field.ErrorList {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	known := false
	for i, v := range versions {
		if slices.Contains(versions[:i], v) {
			errs = append(errs, field.Invalid(path.Index(i), v, "duplicate version"))
			continue
		}
		errs = append(errs, check.Messages(path.Index(i), v, utilvalidation.IsDNS1035Label(v))...)
		known = known || slices.Contains(reviewVersions(), v)
	}
	if !known && r.reviews {
		errs = append(errs, field.Invalid(path, versions, "must include at least one of "+strings.Join(reviewVersions(), ", ")))
	}
	return errs
}
