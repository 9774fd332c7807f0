// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"cmp"
	"math"
	"slices"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	flowcontrol "k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/apiserver/fairness/queues"
)

// plan is what the stored configuration says: levels with their seats, and schemas in the order in which they are asked.
type plan struct {
	levels  map[string]levelPlan
	schemas []*flowcontrolv1.FlowSchema
}

type levelPlan struct {
	uid    string
	exempt bool
	shape  queues.Shape
	// min, nominal and max are seats: what is never lent, the share, and the share with all that may be borrowed.
	min, nominal, max int
	// widest is how many seats one request takes at most.
	widest int
}

// A request takes at most mostSeats, and no more than a share of its level's seats, where it can wait for them.
const (
	mostSeats  = 10
	widestPart = 0.15
)

// makePlan shares out a total of seats. The mandatory levels and schemas are always there; a schema whose level is not there matches nothing.
func makePlan(levels []*flowcontrolv1.PriorityLevelConfiguration, schemas []*flowcontrolv1.FlowSchema, total int) plan {
	levels = withMandatory(levels, flowcontrol.MandatoryPriorityLevelConfigurations, func(l *flowcontrolv1.PriorityLevelConfiguration) string { return l.Name })
	schemas = withMandatory(schemas, flowcontrol.MandatoryFlowSchemas, func(s *flowcontrolv1.FlowSchema) string { return s.Name })
	shares := 0.0
	for _, l := range levels {
		nominal, _, _ := bounds(l)
		shares += float64(nominal)
	}
	p := plan{levels: map[string]levelPlan{}}
	for _, l := range levels {
		nominal, lendable, borrowable := bounds(l)
		seats := math.Ceil(float64(total) * float64(nominal) / shares)
		lp := levelPlan{
			uid: string(l.UID), exempt: l.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt, nominal: int(seats), max: total, widest: mostSeats,
			min: int(seats - math.Round(seats*float64(lendable)/100)),
		}
		if borrowable != nil {
			lp.max = int(seats + math.Round(seats*float64(*borrowable)/100))
		}
		if limited := l.Spec.Limited; limited != nil && limited.LimitResponse.Queuing != nil {
			q := limited.LimitResponse.Queuing
			lp.shape = queues.Shape{Queues: int(q.Queues), HandSize: int(q.HandSize), Length: int(q.QueueLengthLimit)}
			lp.widest = min(mostSeats, max(1, min(int(math.Ceil(seats*widestPart)), int(seats)/max(1, int(q.HandSize)))))
		}
		p.levels[l.Name] = lp
	}
	for _, s := range schemas {
		if _, ok := p.levels[s.Spec.PriorityLevelConfiguration.Name]; ok {
			p.schemas = append(p.schemas, s)
		}
	}
	slices.SortStableFunc(p.schemas, func(a, b *flowcontrolv1.FlowSchema) int {
		return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), cmp.Compare(a.Name, b.Name))
	})
	return p
}

// bounds are a level's shares, and how many percent of its seats it may lend and borrow (nil: any).
func bounds(l *flowcontrolv1.PriorityLevelConfiguration) (shares, lendable int32, borrowable *int32) {
	switch {
	case l.Spec.Limited != nil:
		return ptr.Deref(l.Spec.Limited.NominalConcurrencyShares, 0), ptr.Deref(l.Spec.Limited.LendablePercent, 0), l.Spec.Limited.BorrowingLimitPercent
	case l.Spec.Exempt != nil:
		return ptr.Deref(l.Spec.Exempt.NominalConcurrencyShares, 0), ptr.Deref(l.Spec.Exempt.LendablePercent, 0), nil
	default:
		return 0, 0, nil
	}
}

func withMandatory[T any](stored, mandatory []T, name func(T) string) []T {
	out := slices.Clone(stored)
	for _, m := range mandatory {
		if !slices.ContainsFunc(out, func(s T) bool { return name(s) == name(m) }) {
			out = append(out, m)
		}
	}
	return out
}
