// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package flowcontrol describes the kinds of the flowcontrol.apiserver.k8s.io API group.
package flowcontrol

import (
	"cmp"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// Defaults of flow schemas and priority levels.
const (
	defaultPrecedence  = 1000
	defaultHandSize    = 8
	defaultQueues      = 64
	defaultQueueLength = 50
	defaultShares      = 30
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{flowSchema(), priorityLevel()} }

// version is the only one that is served and stored.
var version = flowcontrolv1.SchemeGroupVersion

// restoreMeta keeps all metadata but managed fields, which track the status update itself.
func restoreMeta(new, old *metav1.ObjectMeta) {
	managed := new.ManagedFields
	*new = *old
	new.ManagedFields = managed
}

func flowSchema() *kinds.Kind {
	doc := flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource: "flowschemas",
		Singular: "flowschema",
		Reset:    map[string][]string{"status": {"metadata", "spec"}},
		Storage:  kinds.Storage{Prefix: "flowschemas"},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *flowcontrolv1.FlowSchema) {
				new.Spec = old.Spec
				restoreMeta(&new.ObjectMeta, &old.ObjectMeta)
			}, validateFlowSchemaStatus),
		},
	}, version.WithKind("FlowSchema"),
		func() *flowcontrolv1.FlowSchema { return &flowcontrolv1.FlowSchema{} },
		func() runtime.Object { return &flowcontrolv1.FlowSchemaList{} },
		kinds.Strategy[*flowcontrolv1.FlowSchema]{
			Default: func(f *flowcontrolv1.FlowSchema) {
				if f.Spec.MatchingPrecedence == 0 {
					f.Spec.MatchingPrecedence = defaultPrecedence
				}
			},
			PrepareCreate: func(_ kinds.Request, f *flowcontrolv1.FlowSchema) {
				f.Status = flowcontrolv1.FlowSchemaStatus{}
				f.Generation = 1
			},
			PrepareUpdate: func(_ kinds.Request, new, old *flowcontrolv1.FlowSchema) {
				new.Status = old.Status
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateFlowSchema,
			ValidateUpdate: validateFlowSchemaUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("PriorityLevel", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"]),
				table.Text("MatchingPrecedence", doc["matchingPrecedence"]),
				table.Text("DistinguisherMethod", doc["distinguisherMethod"]),
				table.Age(),
				table.Text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
			},
			Row: flowSchemaRow,
			Order: func(a, b *flowcontrolv1.FlowSchema) int {
				return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), cmp.Compare(a.Name, b.Name))
			},
		})
}

func flowSchemaRow(f *flowcontrolv1.FlowSchema, now time.Time) []any {
	method, missing := table.None, "?"
	if f.Spec.DistinguisherMethod != nil {
		method = string(f.Spec.DistinguisherMethod.Type)
	}
	for _, c := range f.Status.Conditions {
		if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
			missing = string(c.Status)
			break
		}
	}
	return []any{
		f.Name, f.Spec.PriorityLevelConfiguration.Name, int64(f.Spec.MatchingPrecedence), method,
		table.Since(f.CreationTimestamp, now), missing,
	}
}

func priorityLevel() *kinds.Kind {
	queuing := flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()
	return kinds.Define(kinds.Kind{
		Resource: "prioritylevelconfigurations",
		Singular: "prioritylevelconfiguration",
		Reset:    map[string][]string{"status": {"metadata", "spec"}},
		Storage:  kinds.Storage{Prefix: "prioritylevelconfigurations"},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *flowcontrolv1.PriorityLevelConfiguration) {
				new.Spec = old.Spec
				restoreMeta(&new.ObjectMeta, &old.ObjectMeta)
			}, validatePriorityLevelStatus),
		},
	}, version.WithKind("PriorityLevelConfiguration"),
		func() *flowcontrolv1.PriorityLevelConfiguration { return &flowcontrolv1.PriorityLevelConfiguration{} },
		func() runtime.Object { return &flowcontrolv1.PriorityLevelConfigurationList{} },
		kinds.Strategy[*flowcontrolv1.PriorityLevelConfiguration]{
			Default: defaultPriorityLevel,
			PrepareCreate: func(_ kinds.Request, p *flowcontrolv1.PriorityLevelConfiguration) {
				p.Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
				p.Generation = 1
			},
			PrepareUpdate: func(_ kinds.Request, new, old *flowcontrolv1.PriorityLevelConfiguration) {
				new.Status = old.Status
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validatePriorityLevel,
			ValidateUpdate: validatePriorityLevelUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(),
				table.Text("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"]),
				table.Text("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"]),
				table.Text("Queues", queuing["queues"]),
				table.Text("HandSize", queuing["handSize"]),
				table.Text("QueueLengthLimit", queuing["queueLengthLimit"]),
				table.Age(),
			},
			Row: priorityLevelRow,
		})
}

func defaultPriorityLevel(p *flowcontrolv1.PriorityLevelConfiguration) {
	if e := p.Spec.Exempt; e != nil {
		fill(&e.NominalConcurrencyShares, 0)
		fill(&e.LendablePercent, 0)
	}
	l := p.Spec.Limited
	if l == nil {
		return
	}
	fill(&l.NominalConcurrencyShares, defaultShares)
	fill(&l.LendablePercent, 0)
	if q := l.LimitResponse.Queuing; q != nil {
		orDefault(&q.HandSize, defaultHandSize)
		orDefault(&q.Queues, defaultQueues)
		orDefault(&q.QueueLengthLimit, defaultQueueLength)
	}
}

func fill(p **int32, value int32) {
	if *p == nil {
		*p = &value
	}
}

func orDefault(p *int32, value int32) {
	if *p == 0 {
		*p = value
	}
}

func priorityLevelRow(p *flowcontrolv1.PriorityLevelConfiguration, now time.Time) []any {
	var shares, queues, hand, length any = table.None, table.None, table.None, table.None
	if l := p.Spec.Limited; l != nil {
		if l.NominalConcurrencyShares != nil {
			shares = *l.NominalConcurrencyShares
		}
		if q := l.LimitResponse.Queuing; q != nil {
			queues, hand, length = q.Queues, q.HandSize, q.QueueLengthLimit
		}
	}
	return []any{p.Name, string(p.Spec.Type), shares, queues, hand, length, table.Since(p.CreationTimestamp, now)}
}
