// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/kinds/catalog"
)

// TestScripts runs each script of testdata through each door of a fresh server. Commands:
//
//	do VERB RESOURCE[/SUBRESOURCE] NAMESPACE/NAME [FILE] [KEY=VALUE...]   one request; "!" before it expects a refusal. RESOURCE is the
//	                                                                      plural name, with .group or .version.group
//	watch RESOURCE NAMESPACE/ [KEY=VALUE...]                              starts a watch
//	event TYPE NAME                                                       waits for the watch's next event
//	match REGEXP, nomatch REGEXP                                          judge the last answer
//	save NAME PATH                                                        keeps a field of the last answer in $NAME
//	equal FILE                                                            compares the last answer, cleaned, with a file
func TestScripts(t *testing.T) {
	for _, name := range []string{"json", "protobuf", "inprocess"} {
		t.Run(name, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir: "testdata",
				Setup: func(env *testscript.Env) error {
					served, err := catalog.Serving(map[string]string{"api/all": "true"})
					if err != nil {
						return err
					}
					s := start(env.T().(testing.TB), func(cfg *apiserver.Config) { cfg.Catalog = served })
					var d door = raw{s.Handler()}
					if name != "json" {
						d = newTyped(env.T().(testing.TB), s, served, name == "protobuf")
					}
					ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
					env.Defer(cancel)
					env.Values["run"] = &run{ctx: ctx, door: d, catalog: served}
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"do": cmdDo, "watch": cmdWatch, "event": cmdEvent, "match": cmdMatch, "save": cmdSave, "equal": cmdEqual,
				},
			})
		})
	}
}

// run is the state of one script.
type run struct {
	ctx     context.Context //nolint:containedctx // One script's life.
	door    door
	catalog *catalog.Catalog
	last    string
	answer  map[string]any
	next    func() (string, map[string]any, error)
}

func stateOf(ts *testscript.TestScript) *run { return ts.Value("run").(*run) }

var patches = map[string]types.PatchType{
	"json": types.JSONPatchType, "merge": types.MergePatchType, "strategic": types.StrategicMergePatchType, "apply": types.ApplyYAMLPatchType,
}

// parse reads "RESOURCE NAMESPACE/NAME [FILE] [KEY=VALUE...]".
func parse(ts *testscript.TestScript, r *run, verb string, args []string) *call {
	c := &call{verb: verb, query: url.Values{}}
	resource, sub, _ := strings.Cut(args[0], "/")
	c.subresource = sub
	c.gvr = r.find(resource)
	if c.gvr.Empty() {
		ts.Fatalf("no resource %s", resource)
	}
	c.namespace, c.name, _ = strings.Cut(args[1], "/")
	for _, arg := range args[2:] {
		if key, value, ok := strings.Cut(arg, "="); ok {
			if key == "type" {
				c.patch = patches[value]
				continue
			}
			c.query.Add(key, value)
			continue
		}
		c.body = []byte(ts.ReadFile(arg))
	}
	return c
}

func (r *run) find(resource string) schema.GroupVersionResource {
	name, where, _ := strings.Cut(resource, ".")
	for _, k := range r.catalog.All() {
		for i := range k.Served {
			if s := &k.Served[i]; k.Resource == name && (s.Group == where || s.Version+"."+s.Group == where) {
				return s.GroupVersion().WithResource(name)
			}
		}
	}
	return schema.GroupVersionResource{}
}

func cmdDo(ts *testscript.TestScript, neg bool, args []string) {
	r := stateOf(ts)
	c := parse(ts, r, args[0], args[1:])
	answer, err := r.door.do(r.ctx, c)
	r.answer, r.last = answer, render(answer)
	if err != nil {
		r.last = refusal(err)
	}
	if (err != nil) != neg {
		ts.Fatalf("%s", r.last)
	}
}

func cmdWatch(ts *testscript.TestScript, neg bool, args []string) {
	r := stateOf(ts)
	next, err := r.door.watch(r.ctx, parse(ts, r, "watch", args))
	if err != nil {
		r.last = refusal(err)
	}
	if (err != nil) != neg {
		ts.Fatalf("%s", r.last)
	}
	r.next = next
}

func cmdEvent(ts *testscript.TestScript, _ bool, args []string) {
	r := stateOf(ts)
	kind, obj, err := r.next()
	if errors.Is(err, io.EOF) {
		kind = "END"
	} else if err != nil {
		ts.Fatalf("next event: %v", err)
	}
	r.answer, r.last = obj, render(obj)
	name := ""
	if m, ok := obj["metadata"].(map[string]any); ok {
		name, _ = m["name"].(string)
	}
	if got, want := strings.TrimSpace(kind+" "+name), strings.Join(args, " "); got != want {
		ts.Fatalf("event %q, want %q\n%s", got, want, r.last)
	}
}

func cmdMatch(ts *testscript.TestScript, neg bool, args []string) {
	r := stateOf(ts)
	if regexp.MustCompile("(?m)"+args[0]).MatchString(r.last) == neg {
		ts.Fatalf("match %q (negated: %v) in\n%s", args[0], neg, r.last)
	}
}

func cmdSave(ts *testscript.TestScript, _ bool, args []string) {
	r := stateOf(ts)
	var v any = r.answer
	for part := range strings.SplitSeq(args[1], ".") {
		m, ok := v.(map[string]any)
		if !ok {
			ts.Fatalf("no %s in\n%s", args[1], r.last)
		}
		v = m[part]
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

func cmdEqual(ts *testscript.TestScript, _ bool, args []string) {
	r := stateOf(ts)
	delete(r.answer, "kind")
	delete(r.answer, "apiVersion")
	got, want := render(clean(r.answer).(map[string]any)), ts.ReadFile(args[0])
	if got != want {
		ts.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}
