// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"

	"kogge.dev/kogge/apiserver/request"
)

// record writes into the audit log what a hook did, under upstream's keys. Those of a mutating hook count all hooks of their sort, those of a validating
// one the hooks that the request goes to.
type record struct {
	// state is nil where nothing is recorded.
	state *request.State
	// failedOpen begins the key of a failure that was overlooked.
	failedOpen string
	index      int
	// second says that the hook is asked a second time.
	second bool
}

func (r *record) key(prefix string) string {
	round := 0
	if r.second {
		round = 1
	}
	return fmt.Sprintf("%s.webhook.admission.k8s.io/round_%d_index_%d", prefix, round, r.index)
}

// open says that a hook failed and that it did not matter.
func (r *record) open(h *hook) {
	if r.state != nil {
		r.state.Annotate(r.key(r.failedOpen), h.name)
	}
}

// mutation says whether a hook changed the object.
func (r *record) mutation(h *hook, changed bool) {
	if r.state == nil {
		return
	}
	text, err := json.Marshal(struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Mutated       bool   `json:"mutated"`
	}{h.configuration, h.name, changed})
	if err == nil {
		r.state.Annotate(r.key("mutation"), string(text))
	}
}

// patch says how.
func (r *record) patch(h *hook, patch jsonpatch.Patch) {
	if r.state == nil {
		return
	}
	text, err := json.Marshal(struct {
		Configuration string                `json:"configuration"`
		Webhook       string                `json:"webhook"`
		Patch         jsonpatch.Patch       `json:"patch"`
		PatchType     admissionv1.PatchType `json:"patchType"`
	}{h.configuration, h.name, patch, admissionv1.PatchTypeJSONPatch})
	if err == nil {
		r.state.AnnotateDetail(r.key("patch"), string(text))
	}
}
