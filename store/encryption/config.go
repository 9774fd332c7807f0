// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"kogge.dev/kogge/codec"
)

var versions = []schema.GroupVersion{{Group: "apiserver.config.k8s.io", Version: "v1"}}

// defaultTimeout of calls of a KMS plugin.
const defaultTimeout = 3 * time.Second

// parse reads, completes and judges an EncryptionConfiguration. Messages are upstream's.
func parse(data []byte) (*apiserverv1.EncryptionConfiguration, error) {
	c := &apiserverv1.EncryptionConfiguration{}
	if err := codec.DecodeFile(data, "EncryptionConfiguration", versions, c); err != nil {
		return nil, err
	}
	for i := range c.Resources {
		for j := range c.Resources[i].Providers {
			complete(&c.Resources[i].Providers[j])
		}
	}
	if err := validate(c).ToAggregate(); err != nil {
		return nil, err
	}
	return c, nil
}

func complete(p *apiserverv1.ProviderConfiguration) {
	if p.KMS == nil {
		return
	}
	if p.KMS.Timeout == nil {
		p.KMS.Timeout = &metav1.Duration{Duration: defaultTimeout}
	}
	if p.KMS.APIVersion == "" {
		p.KMS.APIVersion = "v1"
	}
}

func validate(c *apiserverv1.EncryptionConfiguration) field.ErrorList {
	root := field.NewPath("resources")
	if len(c.Resources) == 0 {
		return field.ErrorList{atLeastOne(root, root.String())}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	for i, entry := range c.Resources {
		resources, providers := root.Index(i).Child("resources"), root.Index(i).Child("providers")
		if len(entry.Resources) == 0 {
			errs = append(errs, atLeastOne(resources, resources.String()))
		}
		errs = append(errs, validateOverlap(entry.Resources, resources)...)
		for j, name := range entry.Resources {
			if problem := resourceProblem(name); problem != "" {
				errs = append(errs, field.Invalid(resources.Index(j), name, problem))
			}
		}
		if len(entry.Providers) == 0 {
			errs = append(errs, atLeastOne(providers, providers.String()))
		}
		for j := range entry.Providers {
			errs = append(errs, validateProvider(&entry.Providers[j], providers.Index(j), names)...)
		}
	}
	if len(errs) == 0 {
		errs = masked(c, root)
	}
	return errs
}

func atLeastOne(at *field.Path, what string) *field.Error {
	return field.Required(at, fmt.Sprintf("at least one %s is required", what))
}

const wildcard = "*"

// validateOverlap refuses a list in which one name covers another.
func validateOverlap(names []string, at *field.Path) field.ErrorList {
	duplicate, overlap := false, false
	for i, a := range names {
		for j, b := range names {
			if i == j {
				continue
			}
			x, y := schema.ParseGroupResource(a), schema.ParseGroupResource(b)
			switch {
			case x == y && !duplicate:
				duplicate = true
			case x == schema.GroupResource{Group: wildcard, Resource: wildcard}, x.Group == y.Group && (x.Resource == wildcard || y.Resource == wildcard):
				overlap = true
			}
		}
	}
	var errs field.ErrorList
	if duplicate {
		errs = append(errs, field.Invalid(at, names, "the same resource cannot be specified multiple times"))
	}
	if overlap {
		errs = append(errs, field.Invalid(at, names,
			"using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"))
	}
	return errs
}

// resourceProblem says why a name can't be encrypted; empty for nothing.
func resourceProblem(name string) string {
	gr := schema.ParseGroupResource(name)
	switch {
	case strings.ToLower(name) != name:
		return "resource name should not contain capital letters"
	case name == wildcard:
		return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
	case slices.Contains([]string{"apiserveripinfo", "serviceipallocations", "servicenodeportallocations"}, name):
		return "resources which do not have REST API/s cannot be encrypted"
	case gr.Group == "events.k8s.io":
		return "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
	case gr.Group == "extensions":
		return "'extensions' group has been removed and cannot be used for encryption"
	case gr.Group == wildcard && gr.Resource != wildcard:
		return "encrypting the same resource across groups is not supported"
	}
	return ""
}

// masked refuses entries that an earlier one with a wildcard leaves no effect.
func masked(c *apiserverv1.EncryptionConfiguration, root *field.Path) field.ErrorList {
	seen := map[schema.GroupResource]bool{}
	var errs field.ErrorList
	for i, entry := range c.Resources {
		for j, name := range entry.Resources {
			gr := schema.ParseGroupResource(name)
			for _, wide := range []schema.GroupResource{{Group: gr.Group, Resource: wildcard}, {Group: wildcard, Resource: wildcard}} {
				if seen[wide] {
					earlier := wide.Resource + "." + wide.Group
					errs = append(errs, field.Invalid(root.Index(i).Child("resources").Index(j), name, fmt.Sprintf("resource %q is masked by earlier rule %q", name, earlier)))
					break
				}
			}
			seen[gr] = true
		}
	}
	return errs
}

func validateProvider(p *apiserverv1.ProviderConfiguration, at *field.Path, names map[string]bool) field.ErrorList {
	found := 0
	for _, there := range []bool{p.KMS != nil, p.AESGCM != nil, p.AESCBC != nil, p.Secretbox != nil, p.Identity != nil} {
		if there {
			found++
		}
	}
	// The value may hold keys: it is not repeated.
	switch {
	case found == 0:
		return field.ErrorList{field.Invalid(at, "REDACTED", "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity")}
	case found > 1:
		return field.ErrorList{field.Invalid(at, "REDACTED", "more than one provider specified in a single element, should split into different list elements")}
	}
	aesSizes := []int{16, 24, 32}
	switch {
	case p.KMS != nil:
		return validateKMS(p.KMS, at.Child("kms"), names)
	case p.AESGCM != nil:
		return validateKeys(p.AESGCM.Keys, at.Child("aesgcm", "keys"), aesSizes)
	case p.AESCBC != nil:
		return validateKeys(p.AESCBC.Keys, at.Child("aescbc", "keys"), aesSizes)
	case p.Secretbox != nil:
		return validateKeys(p.Secretbox.Keys, at.Child("secretbox", "keys"), []int{32})
	}
	return nil
}

func validateKeys(keys []apiserverv1.Key, root *field.Path, sizes []int) field.ErrorList {
	if len(keys) == 0 {
		return field.ErrorList{atLeastOne(root, "keys")}
	}
	var errs field.ErrorList
	for i, key := range keys {
		at := root.Index(i)
		if key.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "name is a mandatory field for a key"))
		}
		if key.Secret == "" {
			errs = append(errs, field.Required(at.Child("secret"), "secret is a mandatory field for a key"))
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(key.Secret)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at.Child("secret"), "REDACTED", "secrets must be base64 encoded"))
		case !slices.Contains(sizes, len(secret)):
			errs = append(errs, field.Invalid(at.Child("secret"), "REDACTED",
				fmt.Sprintf("secret is not of the expected length, got %d, expected one of %v", len(secret), sizes)))
		}
	}
	return errs
}

func validateKMS(k *apiserverv1.KMSConfiguration, at *field.Path, names map[string]bool) field.ErrorList {
	var errs field.ErrorList
	if k.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "name is a mandatory field for a provider"))
	}
	if k.APIVersion != "v1" && strings.Contains(k.Name, ":") {
		errs = append(errs, field.Invalid(at.Child("name"), k.Name, fmt.Sprintf("invalid KMS provider name %s, must not contain ':'", k.Name)))
	}
	if names[k.Name] {
		errs = append(errs, field.Invalid(at.Child("name"), k.Name, fmt.Sprintf("duplicate KMS provider name %s, names must be unique", k.Name)))
	}
	names[k.Name] = true
	if k.Timeout.Duration <= 0 {
		errs = append(errs, field.Invalid(at.Child("timeout"), k.Timeout, "timeout should be a positive value"))
	}
	errs = append(errs, validateEndpoint(k.Endpoint, at.Child("endpoint"))...)
	if k.APIVersion != "v1" && k.CacheSize != nil {
		errs = append(errs, field.Invalid(at.Child("cachesize"), *k.CacheSize, "cachesize is not supported in v2"))
	}
	switch k.APIVersion {
	case "v2":
	case "v1":
		errs = append(errs, field.Invalid(at.Child("apiVersion"), k.APIVersion, "KMSv1 is deprecated and not supported. Use KMSv2 instead"))
	default:
		errs = append(errs, field.Invalid(at.Child("apiVersion"), k.APIVersion, "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"))
	}
	return errs
}

func validateEndpoint(endpoint string, at *field.Path) field.ErrorList {
	if endpoint == "" {
		return field.ErrorList{field.Invalid(at, "", "endpoint is a mandatory field for a kms")}
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return field.ErrorList{field.Invalid(at, endpoint, fmt.Sprintf("invalid endpoint for kms provider, error: %v", err))}
	}
	if u.Scheme != "unix" {
		return field.ErrorList{field.Invalid(at, endpoint, fmt.Sprintf("unsupported scheme %q for KMS provider, only unix is supported", u.Scheme))}
	}
	return nil
}
