// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"kogge.dev/kogge/kinds/kindstest"
)

const (
	tableType = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	metaType  = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
)

// seed runs everything that is asked about one manifest.
func (r *run) seed(ctx context.Context, s *seed) error {
	if err := r.creates(ctx, s); err != nil {
		return err
	}
	if !s.can("get", "") || !s.can("create", "") {
		return nil
	}
	defer r.speakFor(nil, nil)
	stored, err := r.store(ctx, s)
	if err != nil || stored == nil {
		return err
	}
	if err := r.reads(ctx, s); err != nil {
		return err
	}
	if err := r.updates(ctx, s, stored); err != nil {
		return err
	}
	return r.remove(ctx, s)
}

// chosen thins faults out: all of them, or those that a hash of their name picks.
func (r *run) chosen(m *kindstest.Mutation) bool {
	return r.Every <= 1 || hash(m.Name)%uint32(r.Every) == 0
}

func hash(text string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum32()
}

// subject names what a difference is about: version, kind and what was done.
func (s *seed) subject(what string) string {
	return fmt.Sprintf("%s %s %s", s.object["apiVersion"], s.object["kind"], what)
}

// dry is a query that stores nothing.
const dry = "?dryRun=All&fieldManager=differ"

// creates asks for the manifest and each of its faults, storing nothing. Reviews ignore dryRun, and store nothing anyway.
func (r *run) creates(ctx context.Context, s *seed) error {
	ask := func(object map[string]any, name, query string) error {
		c := &call{method: "POST", path: s.collection() + query, body: encode(object)}
		_, _, err := r.both(ctx, s.subject("create"), s.title()+": create "+name, c)
		return err
	}
	if err := ask(s.object, "as it is", dry+"&fieldValidation=Strict"); err != nil || s.fixture {
		return err
	}
	for _, m := range append(kindstest.Mutate(s.object), misshape(s.object)...) {
		if !r.chosen(&m) {
			continue
		}
		// Warn, the default, and Strict differ only in fields that nobody knows.
		query := dry
		if hash(m.Name)%2 == 0 {
			query += "&fieldValidation=Strict"
		}
		if err := ask(m.Object, m.Name, query); err != nil {
			return err
		}
	}
	return nil
}

// store creates the object on both sides and returns upstream's, without what belongs to one side. It returns nil where
// upstream refuses it.
func (r *run) store(ctx context.Context, s *seed) (map[string]any, error) {
	c := &call{method: "POST", path: s.collection() + "?fieldManager=differ", body: encode(s.object)}
	ours, upstream, err := r.both(ctx, s.subject("create"), s.title()+": store", c)
	if err != nil || upstream.refused() || ours.refused() {
		return nil, err
	}
	r.speakFor(ours.body, upstream.body)
	if err := r.settle(ctx, s); err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(encode(upstream.body), &object); err != nil {
		return nil, err
	}
	if s.status != nil && s.can("update", "status") {
		object["status"] = s.status
	}
	object["apiVersion"], object["kind"] = s.object["apiVersion"], s.object["kind"]
	meta := object["metadata"].(map[string]any)
	for _, own := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
		delete(meta, own)
	}
	return object, nil
}

// speakFor makes kogge's side be asked about its own choices wherever a request holds upstream's.
func (r *run) speakFor(ours, upstream any) {
	r.ours.say, r.ours.hear = nil, nil
	pairs := map[string]string{}
	choices(".", ours, upstream, pairs)
	if len(pairs) == 0 {
		return
	}
	var say, hear []string
	for _, theirs := range slices.Sorted(maps.Keys(pairs)) {
		say, hear = append(say, theirs, pairs[theirs]), append(hear, pairs[theirs], theirs)
	}
	r.ours.say, r.ours.hear = strings.NewReplacer(say...), strings.NewReplacer(hear...)
}

// choices collects upstream's values with ours where the servers chose them: every other difference is one to report.
func choices(path string, ours, upstream any, into map[string]string) {
	switch a := ours.(type) {
	case map[string]any:
		b, _ := upstream.(map[string]any)
		for key := range a {
			choices(path+"."+key, a[key], b[key], into)
		}
	case []any:
		b, _ := upstream.([]any)
		for i := range min(len(a), len(b)) {
			choices(path+"[]", a[i], b[i], into)
		}
	case string, json.Number:
		mine, theirs := fmt.Sprint(a), fmt.Sprint(upstream)
		if mine != theirs && (strings.HasSuffix(path, ".uid") || scrub(mine) == scrub(theirs) && strings.Contains(mine, "kube-api-access-") || allocated(path, mine, theirs)) {
			into[theirs] = mine
		}
	}
}

// settle waits until the servers' own loops have reported about an object that they look after.
func (r *run) settle(ctx context.Context, s *seed) error {
	if s.served.Kind != "CustomResourceDefinition" && s.served.Kind != "APIService" {
		return nil
	}
	const patience, pause = 5 * time.Second, 200 * time.Millisecond
	c := &call{method: "GET", path: s.item()}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		ours, err := r.ours.ask(ctx, c)
		if err != nil {
			return err
		}
		upstream, err := r.upstream.ask(ctx, c)
		if err != nil || reported(ours) && reported(upstream) && len(compare(c, ours, upstream)) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil // what still differs is reported by the reads that follow
}

// reported tells whether an object has conditions.
func reported(a *answer) bool {
	object, _ := a.body.(map[string]any)
	status, _ := object["status"].(map[string]any)
	conditions, _ := status["conditions"].([]any)
	return len(conditions) > 0
}

// reads compares an object, its list, its table, its metadata and its subresources as stored.
func (r *run) reads(ctx context.Context, s *seed) error {
	for _, read := range []struct{ what, path, accept string }{
		{"get", s.item(), ""},
		{"table", s.item(), tableType},
		{"table", s.collection() + "?includeObject=None&fieldSelector=metadata.name=" + url.QueryEscape(s.name()), tableType},
		{"metadata", s.item(), metaType},
		{"scale", s.item() + "/scale", ""},
		{"status", s.item() + "/status", ""},
	} {
		c := &call{method: "GET", path: read.path, accept: read.accept}
		if _, _, err := r.both(ctx, s.subject(read.what), s.title()+": "+read.what, c); err != nil {
			return err
		}
	}
	return nil
}

// updates asks for changes of the stored object: by PUT, by one kind of patch in turn, and of its status. Nothing is
// stored.
func (r *run) updates(ctx context.Context, s *seed, stored map[string]any) error {
	faults := []kindstest.Mutation{{Name: "as it is", Object: stored}}
	if !s.fixture {
		faults = append(faults, kindstest.Mutate(stored)...)
	}
	// A version that is known to be the newest: PUT without one is refused by some kinds, which is asked about below.
	for _, m := range faults {
		if !r.chosen(&m) && m.Name != "as it is" {
			continue
		}
		if err := r.put(ctx, s, "", m); err != nil {
			return err
		}
		for _, sub := range s.kind.Subresources {
			if s.status == nil || !s.can("update", sub.Name) || sub.New != nil {
				continue
			}
			if err := r.put(ctx, s, sub.Name, m); err != nil {
				return err
			}
		}
		if err := r.patch(ctx, s, stored, m); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) put(ctx context.Context, s *seed, subresource string, m kindstest.Mutation) error {
	path, what := s.item(), "update"
	if subresource != "" {
		path, what = path+"/"+subresource, "update "+subresource
	}
	c := &call{method: "PUT", path: path + dry, body: encode(m.Object)}
	_, _, err := r.both(ctx, s.subject(what), s.title()+": "+what+" "+m.Name, c)
	return err
}

// patch sends one fault as one of the four kinds of patch, which a hash of its name picks.
func (r *run) patch(ctx context.Context, s *seed, stored map[string]any, m kindstest.Mutation) error {
	kind := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType}[hash(m.Name+"patch")%4]
	body, query, err := patchBody(s, kind, stored, m)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, m.Name, err)
	}
	c := &call{method: "PATCH", path: s.item() + query, contentType: string(kind), body: body}
	_, _, err = r.both(ctx, s.subject("patch"), s.title()+": "+string(kind)+" "+m.Name, c)
	return err
}

func patchBody(s *seed, kind types.PatchType, stored map[string]any, m kindstest.Mutation) (body []byte, query string, err error) {
	before, after := encode(stored), encode(m.Object)
	switch kind {
	case types.ApplyYAMLPatchType:
		query = "?dryRun=All&fieldManager=applier"
		if hash(m.Name)%3 > 0 {
			query += "&force=true"
		}
		return after, query, nil
	case types.MergePatchType:
		body, err = jsonpatch.CreateMergePatch(before, after)
	case types.StrategicMergePatchType:
		body, err = strategicpatch.CreateTwoWayMergePatch(before, after, s.served.New())
		if err != nil { // what is not a value of the type has no strategic patch
			body, err = jsonpatch.CreateMergePatch(before, after)
		}
	case types.JSONPatchType:
		var operations []map[string]any
		for _, key := range []string{"metadata", "spec", "data", "status"} {
			if value, there := m.Object[key]; there {
				operations = append(operations, map[string]any{"op": "add", "path": "/" + key, "value": value})
			}
		}
		body = encode(operations)
	default:
		return nil, "", errors.New("no such patch is made")
	}
	return body, dry, err
}

// remove deletes the object on both sides, and what holds it.
func (r *run) remove(ctx context.Context, s *seed) error {
	c := &call{method: "DELETE", path: s.item() + "?gracePeriodSeconds=0"}
	if _, _, err := r.both(ctx, s.subject("delete"), s.title()+": delete", c); err != nil {
		return err
	}
	release := &call{
		method: "PATCH", path: s.item(), contentType: string(types.MergePatchType), body: []byte(`{"metadata":{"finalizers":null}}`),
	}
	if s.served.Kind == "CustomResourceDefinition" {
		return nil // both servers let it go by themselves, each in its own time
	}
	if s.served.Kind == "Namespace" {
		body := maps.Clone(s.object)
		body["spec"] = map[string]any{}
		release = &call{method: "PUT", path: s.item() + "/finalize", body: encode(body)}
	}
	// A list waits for upstream's cache: a patch would start from the object as it was, and warn about it, though it is gone.
	list := &call{method: "GET", path: s.collection() + "?fieldSelector=metadata.name=" + url.QueryEscape(s.name())}
	if _, _, err := r.both(ctx, s.subject("list"), s.title()+": list after deletion", list); err != nil {
		return err
	}
	if _, _, err := r.both(ctx, s.subject("release"), s.title()+": release", release); err != nil {
		return err
	}
	_, _, err := r.both(ctx, s.subject("get"), s.title()+": get after deletion", &call{method: "GET", path: s.item()})
	return err
}
