// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserverinternal

import (
	"fmt"
	"slices"
	"strings"

	apiserverinternalv1alpha1 "k8s.io/api/apiserverinternal/v1alpha1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validateStatus(_ kinds.Request, new, _ *apiserverinternalv1alpha1.StorageVersion) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, server := range new.Status.StorageVersions {
		at := path.Child("storageVersions").Index(i)
		if seen[server.APIServerID] {
			errs = append(errs, field.Duplicate(at.Child("apiServerID"), server.APIServerID))
		}
		seen[server.APIServerID] = true
		errs = append(errs, validateServer(&server, at)...)
	}
	errs = append(errs, validateCommon(&new.Status, path.Child("commonEncodingVersion"))...)
	return append(errs, validateConditions(new.Status.Conditions, path)...)
}

// validateServer wants versions, and each of them to be one that the server can read.
func validateServer(s *apiserverinternalv1alpha1.ServerStorageVersion, path *field.Path) field.ErrorList {
	errs := check.Messages(path.Child("apiServerID"), s.APIServerID, utilvalidation.IsDNS1123Subdomain(s.APIServerID))
	errs = append(errs, apiVersion(s.EncodingVersion, path.Child("encodingVersion"))...)
	readable := path.Child("decodableVersions")
	for i, version := range s.DecodableVersions {
		errs = append(errs, apiVersion(version, readable.Index(i))...)
	}
	if !slices.Contains(s.DecodableVersions, s.EncodingVersion) {
		errs = append(errs, field.Invalid(readable, s.DecodableVersions, "decodableVersions must include encodingVersion "+s.EncodingVersion))
	}
	for i, version := range s.ServedVersions {
		at := path.Child("servedVersions").Index(i)
		errs = append(errs, apiVersion(version, at)...)
		if !slices.Contains(s.DecodableVersions, version) {
			errs = append(errs, field.Invalid(at, version,
				fmt.Sprintf("individual served version : %s must be included in decodableVersions : %s", version, s.DecodableVersions)))
		}
	}
	return errs
}

// apiVersion judges a version, with a group before it or without; all that is wrong is one error.
func apiVersion(text string, path *field.Path) field.ErrorList {
	group, version, grouped := strings.Cut(text, "/")
	if !grouped {
		version = group
	}
	if strings.Contains(version, "/") {
		const label = "a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character"
		return field.ErrorList{field.Invalid(path, text, "an apiVersion is "+utilvalidation.RegexError(label, "[a-z]([-a-z0-9]*[a-z0-9])?", "my-name", "abc-123")+
			" with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')")}
	}
	var found []string
	judge := func(part, value string, problems func(string) []string) {
		if value == "" {
			found = append(found, part+utilvalidation.EmptyError())
			return
		}
		for _, message := range problems(value) {
			found = append(found, part+message)
		}
	}
	if grouped {
		judge("group part: ", group, utilvalidation.IsDNS1123Subdomain)
	}
	judge("version part: ", version, utilvalidation.IsDNS1035Label)
	if len(found) == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, text, strings.Join(found, ","))}
}

// validateCommon wants the common version to be the one in which all servers write, and absent where they differ.
func validateCommon(s *apiserverinternalv1alpha1.StorageVersionStatus, path *field.Path) field.ErrorList {
	servers, said := s.StorageVersions, s.CommonEncodingVersion
	agree := len(servers) > 0 && !slices.ContainsFunc(servers, func(o apiserverinternalv1alpha1.ServerStorageVersion) bool {
		return o.EncodingVersion != servers[0].EncodingVersion
	})
	switch {
	case !agree && said != nil:
		return field.ErrorList{field.Invalid(path, *said,
			"should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet")}
	case agree && said == nil:
		return field.ErrorList{field.Invalid(path, said, "the common encoding version is "+servers[0].EncodingVersion)}
	case agree && *said != servers[0].EncodingVersion:
		return field.ErrorList{field.Invalid(path, *said, "the actual common encoding version is "+servers[0].EncodingVersion)}
	}
	return nil
}

// validateConditions names conditions without the name of their list, as clients have always seen it.
func validateConditions(conditions []apiserverinternalv1alpha1.StorageVersionCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[apiserverinternalv1alpha1.StorageVersionConditionType]int{}
	for i, c := range conditions {
		at := path.Index(i)
		if first, found := seen[c.Type]; found {
			errs = append(errs, field.Invalid(at.Child("type"), string(c.Type),
				fmt.Sprintf("the type of the condition is not unique, it also appears in conditions[%d]", first)))
		}
		seen[c.Type] = i
		errs = append(errs, check.QualifiedName(string(c.Type), at.Child("type"))...)
		errs = append(errs, check.QualifiedName(string(c.Status), at.Child("status"))...)
		if c.Reason == "" {
			errs = append(errs, field.Required(at.Child("reason"), ""))
		}
		if c.Message == "" {
			errs = append(errs, field.Required(at.Child("message"), ""))
		}
	}
	return errs
}
