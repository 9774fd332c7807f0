// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/internal/version"
)

// Pages tell people, and programs that ask for it (config.k8s.io), what a component is and how it was configured: /statusz and /flagz (KEP-4827, KEP-4828).
type Pages struct {
	// Component as upstream calls it: apiserver, kube-scheduler.
	Component string
	// Started is when the process began to serve.
	Started time.Time
	// Paths that /statusz points to.
	Paths []string
	// Flags are the settings by name; no secrets.
	Flags map[string]string
}

// page is either of the pages as an object; the fields of the other are absent.
type page struct {
	metav1.TypeMeta
	Metadata metadata `json:"metadata"`

	StartTime        string            `json:"startTime,omitempty"`
	UptimeSeconds    *int64            `json:"uptimeSeconds,omitempty"`
	GoVersion        string            `json:"goVersion,omitempty"`
	BinaryVersion    string            `json:"binaryVersion,omitempty"`
	EmulationVersion string            `json:"emulationVersion,omitempty"`
	Paths            []string          `json:"paths,omitempty"`
	Flags            map[string]string `json:"flags,omitempty"`
}

type metadata struct {
	Name string `json:"name"`
}

// Statusz answers /statusz.
func (p *Pages) Statusz(w http.ResponseWriter, r *http.Request) {
	up := int64(time.Since(p.Started).Seconds())
	release, _, _ := strings.Cut(strings.TrimPrefix(version.Kubernetes, "v"), "+")
	info := version.Info()
	minor := info.EmulationMajor + "." + info.EmulationMinor
	p.serve(w, r, &page{
		TypeMeta: metav1.TypeMeta{Kind: "Statusz"}, Metadata: metadata{p.Component},
		StartTime: p.Started.UTC().Format(time.RFC3339), UptimeSeconds: &up, GoVersion: runtime.Version(), BinaryVersion: release, EmulationVersion: minor, Paths: p.Paths,
	}, func(out *strings.Builder) {
		fmt.Fprintf(out, "Started= %s\n", p.Started.UTC().Format(time.UnixDate))
		fmt.Fprintf(out, "Up= %d hr %02d min %02d sec\n", up/3600, up/60%60, up%60)
		fmt.Fprintf(out, "Go version= %s\nBinary version= %s\nEmulation version= %s\n", runtime.Version(), release, minor)
		fmt.Fprintf(out, "Paths= %s\n", strings.Join(p.Paths, " "))
	})
}

// Flagz answers /flagz.
func (p *Pages) Flagz(w http.ResponseWriter, r *http.Request) {
	p.serve(w, r, &page{TypeMeta: metav1.TypeMeta{Kind: "Flagz"}, Metadata: metadata{p.Component}, Flags: p.Flags}, func(out *strings.Builder) {
		for _, name := range slices.Sorted(maps.Keys(p.Flags)) {
			fmt.Fprintf(out, "%s=%s\n", name, p.Flags[name])
		}
	})
}

// serve answers in the form that the client accepts first: text, or the object in JSON or YAML.
func (p *Pages) serve(w http.ResponseWriter, r *http.Request, object *page, text func(*strings.Builder)) {
	const plain, asJSON, asYAML = "text/plain", "application/json", "application/yaml"
	accepted := r.Header.Get("Accept")
	if accepted == "" {
		accepted = plain
	}
	for part := range strings.SplitSeq(accepted, ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue
		}
		structured := params["as"] == object.Kind && params["g"] == "config.k8s.io" && (params["v"] == "v1beta1" || params["v"] == "v1alpha1")
		switch {
		case media == plain || media == "text/*" || media == "*/*":
			var out strings.Builder
			fmt.Fprintf(&out, "\n%s %s\nFor people who look for faults: what is here, and how it is written, may change.\n\n", p.Component, strings.ToLower(object.Kind))
			text(&out)
			w.Header().Set("Content-Type", plain+"; charset=utf-8")
			_, _ = w.Write([]byte(out.String())) // A client that went away is no error of ours.
			return
		case structured && (media == asJSON || media == asYAML):
			if params["v"] == "v1alpha1" {
				w.Header().Add("Warning", fmt.Sprintf("299 - %q", "config.k8s.io/v1alpha1 "+object.Kind+" is deprecated; use config.k8s.io/v1beta1 "+object.Kind))
			}
			object.APIVersion = "config.k8s.io/" + params["v"]
			write(w, http.StatusOK, media, ";g=config.k8s.io;v="+params["v"]+";as="+object.Kind, object)
			return
		}
	}
	write(w, http.StatusNotAcceptable, asJSON, "", &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join([]string{asJSON, asYAML, plain}, ", "),
	})
}

func write(w http.ResponseWriter, code int, media, params string, object any) {
	encode := json.Marshal
	if media == "application/yaml" {
		encode = func(v any) ([]byte, error) { return yaml.Marshal(v) }
	}
	data, err := encode(object)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", media+params)
	w.WriteHeader(code)
	_, _ = w.Write(data) // A client that went away is no error of ours.
}
