// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command hook is a webhook server for the stories: hook -cert FILE -key FILE serves HTTPS on port 8443. /mutate gives
// ships a home port, /validate refuses contraband and warns about old ships, /convert moves masts between version v1
// (spec.masts) and v2 (spec.rig.masts). What it decided is printed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"
)

// review has the parts of AdmissionReview v1 and ConversionReview v1 that the server reads and writes.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID string `json:"uid"`
	// Operation and Object are an admission's.
	Operation string `json:"operation,omitempty"`
	Object    ship   `json:"object,omitzero"`
	// DesiredAPIVersion and Objects are a conversion's.
	DesiredAPIVersion string           `json:"desiredAPIVersion,omitempty"`
	Objects           []map[string]any `json:"objects,omitempty"`
}

type response struct {
	UID string `json:"uid"`
	// Allowed, Status, Patch and Warnings answer an admission.
	Allowed   bool     `json:"allowed"`
	Status    *status  `json:"status,omitempty"`
	PatchType string   `json:"patchType,omitempty"`
	Patch     []byte   `json:"patch,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	// Result and ConvertedObjects answer a conversion.
	Result           *status          `json:"result,omitempty"`
	ConvertedObjects []map[string]any `json:"convertedObjects,omitempty"`
}

type status struct {
	Status  string `json:"status,omitempty"`
	Code    int    `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

type ship struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Home  string `json:"home"`
		Cargo string `json:"cargo"`
		Built int    `json:"built"`
	} `json:"spec"`
}

func main() {
	cert := flag.String("cert", "", "certificate file")
	key := flag.String("key", "", "key file")
	flag.Parse()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mutate", answer(mutate))
	mux.HandleFunc("POST /validate", answer(validate))
	mux.HandleFunc("POST /convert", answer(convert))
	server := &http.Server{Addr: ":8443", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	if err := server.ListenAndServeTLS(*cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(decide func(*request) *response) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in review
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Request == nil {
			http.Error(w, fmt.Sprintf("no review: %v", err), http.StatusBadRequest)
			return
		}
		out := review{APIVersion: in.APIVersion, Kind: in.Kind, Response: decide(in.Request)}
		out.Response.UID = in.Request.UID
		fmt.Fprintln(os.Stdout, r.URL.Path, in.Request.Operation, in.Request.Object.Metadata.Name, out.Response.Allowed)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // the caller may have gone
	}
}

func mutate(r *request) *response {
	out := &response{Allowed: true}
	if r.Object.Spec.Home == "" {
		out.PatchType, out.Patch = "JSONPatch", []byte(`[{"op":"add","path":"/spec/home","value":"Lübeck"}]`)
	}
	return out
}

func validate(r *request) *response {
	if r.Object.Spec.Cargo == "contraband" {
		return &response{Status: &status{Code: http.StatusForbidden, Message: "contraband is not carried from " + r.Object.Spec.Home}}
	}
	out := &response{Allowed: true}
	if built := r.Object.Spec.Built; built > 0 && built < 1200 {
		out.Warnings = []string{"this ship is old"}
	}
	return out
}

func convert(r *request) *response {
	out := &response{Result: &status{Status: "Success"}}
	for _, object := range r.Objects {
		spec, _ := object["spec"].(map[string]any)
		rig, _ := spec["rig"].(map[string]any)
		switch r.DesiredAPIVersion {
		case "sea.example/v2":
			if masts, ok := spec["masts"]; ok {
				spec["rig"] = map[string]any{"masts": masts}
				delete(spec, "masts")
			}
		case "sea.example/v1":
			if masts, ok := rig["masts"]; ok {
				spec["masts"] = masts
				delete(spec, "rig")
			}
		default:
			return &response{Result: &status{Status: "Failure", Message: "unknown version " + r.DesiredAPIVersion}}
		}
		object["apiVersion"] = r.DesiredAPIVersion
		out.ConvertedObjects = append(out.ConvertedObjects, object)
	}
	return out
}
