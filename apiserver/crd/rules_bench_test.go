// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"testing"

	"kogge.dev/kogge/kinds"
)

// routeSchema is as those of routes of Gateway API are: rules at several depths, about strings, lists and unions, and defaults that have rules below.
const routeSchema = `
type: object
required: [spec]
properties:
  spec:
    type: object
    properties:
      hostnames: {type: array, maxItems: 16, items: {type: string, minLength: 1, maxLength: 253}}
      parentRefs:
        type: array
        maxItems: 32
        x-kubernetes-validations:
        - {message: sectionName must be unique, rule: "self.all(p1, self.exists_one(p2, p1.name == p2.name && (!has(p1.sectionName) && !has(p2.sectionName) || has(p1.sectionName) && has(p2.sectionName) && p1.sectionName == p2.sectionName)))"}
        items: {type: object, required: [name], properties: {name: {type: string, maxLength: 253}, sectionName: {type: string, maxLength: 253}, port: {type: integer}}}
      rules:
        type: array
        maxItems: 16
        default: [{matches: [{path: {type: PathPrefix, value: /}}]}]
        x-kubernetes-validations:
        - {message: not more than 128 matches, rule: "(self.size() > 0 ? self[0].matches.size() : 0) + (self.size() > 1 ? self[1].matches.size() : 0) <= 128"}
        items:
          type: object
          x-kubernetes-validations:
          - {message: no backends with a redirect, rule: "has(self.backendRefs) && size(self.backendRefs) > 0 ? !has(self.filters) || self.filters.all(f, f.type != 'RequestRedirect') : true"}
          - {message: a prefix needs one match, rule: "has(self.filters) && self.filters.exists_one(f, has(f.redirect) && has(f.redirect.prefix)) ? size(self.matches) == 1 && self.matches[0].path.type == 'PathPrefix' : true"}
          properties:
            backendRefs: {type: array, maxItems: 16, items: {type: object, required: [name], properties: {name: {type: string, maxLength: 253}, weight: {type: integer, default: 1}}}}
            matches:
              type: array
              maxItems: 8
              default: [{path: {type: PathPrefix, value: /}}]
              items:
                type: object
                properties:
                  method: {type: string, enum: [GET, PUT, POST]}
                  path:
                    type: object
                    default: {type: PathPrefix, value: /}
                    x-kubernetes-validations:
                    - {message: must be absolute, rule: "self.type in ['Exact', 'PathPrefix'] ? self.value.startsWith('/') : true"}
                    - {message: must not contain //, rule: "self.type in ['Exact', 'PathPrefix'] ? !self.value.contains('//') : true"}
                    - {message: only valid characters, rule: "self.type in ['Exact', 'PathPrefix'] ? self.value.matches(r'^(?:[-A-Za-z0-9/._~!$&()*+,;=:@]|[%][0-9a-fA-F]{2})+$') : true"}
                    properties: {type: {type: string, default: PathPrefix, enum: [Exact, PathPrefix]}, value: {type: string, maxLength: 1024, default: /}}
            filters:
              type: array
              maxItems: 16
              x-kubernetes-validations:
              - {message: one redirect at most, rule: "self.filter(f, f.type == 'RequestRedirect').size() <= 1"}
              items:
                type: object
                required: [type]
                x-kubernetes-validations:
                - {message: a redirect and its type belong together, rule: "!(has(self.redirect) && self.type != 'RequestRedirect')", messageExpression: "'type is ' + self.type"}
                - {message: a mirror and its type belong together, rule: "!(has(self.mirror) && self.type != 'RequestMirror')"}
                properties:
                  type: {type: string, enum: [RequestRedirect, RequestMirror]}
                  mirror: {type: object, x-kubernetes-validations: [{rule: "!(has(self.percent) && has(self.fraction))"}], properties: {percent: {type: integer}, fraction: {type: integer}}}
                  redirect: {type: object, properties: {prefix: {type: string, maxLength: 1024}, port: {type: integer}}}
            timeouts:
              type: object
              x-kubernetes-validations:
              - {message: backendRequest must not exceed request, rule: "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s') && duration(self.backendRequest) > duration(self.request))"}
              properties: {request: {type: string, maxLength: 30}, backendRequest: {type: string, maxLength: 30}}
`

func BenchmarkJudge(b *testing.B) {
	crd := definition(b, routeSchema)
	if errs := faultsOf(b, crd); len(errs) > 0 {
		b.Fatal(errs)
	}
	b.ReportAllocs()
	for b.Loop() {
		Judge(b.Context(), kinds.Request{}, crd, nil)
	}
}
