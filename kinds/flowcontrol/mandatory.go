// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package flowcontrol

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/utils/ptr"
)

// mandatoryFlowSchemas are the specs of the schemas that are always there: one for administrators, one for everyone else.
func mandatoryFlowSchemas() map[string]flowcontrolv1.FlowSchemaSpec {
	return map[string]flowcontrolv1.FlowSchemaSpec{
		flowcontrolv1.FlowSchemaNameExempt: {
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: flowcontrolv1.PriorityLevelConfigurationNameExempt},
			MatchingPrecedence:         1,
			Rules:                      everything("system:masters"),
		},
		flowcontrolv1.FlowSchemaNameCatchAll: {
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: flowcontrolv1.PriorityLevelConfigurationNameCatchAll},
			MatchingPrecedence:         maxPrecedence,
			DistinguisherMethod:        &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
			Rules:                      everything("system:unauthenticated", "system:authenticated"),
		},
	}
}

// everything are the rules that match any request of the groups.
func everything(groups ...string) []flowcontrolv1.PolicyRulesWithSubjects {
	var subjects []flowcontrolv1.Subject
	for _, name := range groups {
		subjects = append(subjects, flowcontrolv1.Subject{
			Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: name},
		})
	}
	all := []string{"*"}
	return []flowcontrolv1.PolicyRulesWithSubjects{{
		Subjects:         subjects,
		ResourceRules:    []flowcontrolv1.ResourcePolicyRule{{Verbs: all, APIGroups: all, Resources: all, Namespaces: all, ClusterScope: true}},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: all, NonResourceURLs: all}},
	}}
}

// mandatoryPriorityLevels are the specs of the levels that are always there.
func mandatoryPriorityLevels() map[string]flowcontrolv1.PriorityLevelConfigurationSpec {
	return map[string]flowcontrolv1.PriorityLevelConfigurationSpec{
		flowcontrolv1.PriorityLevelConfigurationNameExempt: {
			Type: flowcontrolv1.PriorityLevelEnablementExempt,
			Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{
				NominalConcurrencyShares: ptr.To[int32](0),
				LendablePercent:          ptr.To[int32](0),
			},
		},
		flowcontrolv1.PriorityLevelConfigurationNameCatchAll: {
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: ptr.To[int32](5),
				LendablePercent:          ptr.To[int32](0),
				LimitResponse:            flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	}
}
