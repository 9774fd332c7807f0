// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package taints tells which taints of a node a pod tolerates.
package taints

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Tolerates reports whether one toleration covers one taint.
func Tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect {
		return false
	}
	if t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case "", corev1.TolerationOpEqual:
		return t.Value == taint.Value
	case corev1.TolerationOpExists:
		return true
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		want, err := strconv.ParseInt(t.Value, 10, 64)
		if err != nil {
			return false
		}
		have, err := strconv.ParseInt(taint.Value, 10, 64)
		if err != nil {
			return false
		}
		if t.Operator == corev1.TolerationOpLt {
			return have < want
		}
		return have > want
	}
	return false
}

// Tolerated reports whether any of the tolerations covers the taint.
func Tolerated(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool { return Tolerates(&t, taint) })
}

// Untolerated returns the first taint of one of the effects that no toleration covers, or nil.
func Untolerated(taints []corev1.Taint, tolerations []corev1.Toleration, effects ...corev1.TaintEffect) *corev1.Taint {
	for i := range taints {
		if slices.Contains(effects, taints[i].Effect) && !Tolerated(tolerations, &taints[i]) {
			return &taints[i]
		}
	}
	return nil
}
