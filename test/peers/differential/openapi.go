// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"regexp"
	"slices"
	"strings"
)

// unfold brings two ways of writing the same OpenAPI document together: references to shared parameters are followed, and
// lists that have no order are sorted. It changes and returns document.
func unfold(document any) any {
	root, ok := document.(map[string]any)
	if !ok {
		return document
	}
	shared, _ := root["parameters"].(map[string]any)
	delete(root, "parameters")
	paths, _ := root["paths"].(map[string]any)
	for _, value := range paths {
		item, ok := value.(map[string]any)
		if !ok {
			continue
		}
		unfoldOperation(item, shared)
		for _, operation := range item {
			if o, ok := operation.(map[string]any); ok {
				unfoldOperation(o, shared)
			}
		}
	}
	return root
}

func unfoldOperation(operation, shared map[string]any) {
	if list, ok := operation["parameters"].([]any); ok {
		byName := map[string]any{}
		for _, entry := range list {
			parameter, _ := entry.(map[string]any)
			if ref, ok := parameter["$ref"].(string); ok {
				parameter, _ = shared[strings.TrimPrefix(ref, "#/parameters/")].(map[string]any)
			}
			in, _ := parameter["in"].(string)
			name, _ := parameter["name"].(string)
			byName[in+" "+name] = parameter
		}
		operation["parameters"] = byName
	}
	for _, key := range []string{"produces", "consumes", "schemes"} {
		if list, ok := operation[key].([]any); ok {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(text(a), text(b)) })
		}
	}
}

// urls are the keys of an OpenAPI document's paths, with what follows.
var urls = regexp.MustCompile(`\.paths\.(/[^ ]*?)(\.(get|put|post|delete|patch|head|options|parameters)\b)`)

// place takes the URL out of where in an OpenAPI document something is, so that the same difference at many URLs is one kind; where a whole
// URL differs, it stays.
func place(where string) string { return urls.ReplaceAllString(where, ".paths.(url)$2") }
