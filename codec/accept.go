// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"mime"
	"slices"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Accepted is what a client wants to read: a format and, when As is set, a projection of the object.
type Accepted struct {
	Format Format
	// As is Table, PartialObjectMetadata, PartialObjectMetadataList, APIGroupDiscoveryList or empty.
	As string
	// GroupVersion of the projection.
	GroupVersion schema.GroupVersion
	// Profile is the profile parameter ("nopeer" in discovery).
	Profile string
	// Pretty asks for indented JSON.
	Pretty bool
}

// Projections of ordinary resources; the value is the group of the projection.
const (
	AsTable           = "Table"
	AsPartial         = "PartialObjectMetadata"
	AsPartialList     = "PartialObjectMetadataList"
	AsGroupDiscovery  = "APIGroupDiscoveryList"
	groupMeta         = metav1.GroupName
	groupAPIDiscovery = "apidiscovery.k8s.io"
)

// Allowed says whether an endpoint answers in a format with a projection of its object; as is empty for the object as it is.
type Allowed func(f Format, as string, gv schema.GroupVersion) bool

// clause is one media range of an Accept header.
type clause struct {
	kind, subtype string
	params        map[string]string
	quality       float64
}

// parseAccept reads the header as upstream's library does: what it can't read is left out.
func parseAccept(header string) []clause {
	var out clauses
	for part := range strings.SplitSeq(header, ",") {
		full, params, _ := strings.Cut(part, ";")
		c := clause{quality: 1}
		c.kind, c.subtype, _ = strings.Cut(strings.Trim(full, " "), "/")
		c.kind, c.subtype = strings.Trim(c.kind, " "), strings.Trim(c.subtype, " ")
		if c.subtype == "" && c.kind == "*" {
			c.subtype = "*"
		}
		if c.subtype == "" || strings.Contains(c.subtype, "/") {
			continue
		}
		c.readParams(params)
		out = append(out, c)
	}
	sort.Sort(out)
	return out
}

func (c *clause) readParams(text string) {
	for text != "" {
		var param string
		param, text, _ = strings.Cut(text, ";")
		key, value, _ := strings.Cut(param, "=")
		if value == "" || strings.Contains(value, "=") {
			continue
		}
		if key = strings.Trim(key, " "); key == "q" {
			c.quality, _ = strconv.ParseFloat(value, 32) // What is no number is 0, which is refused no more than any other.
			continue
		}
		if c.params == nil {
			c.params = map[string]string{}
		}
		c.params[key] = strings.Trim(value, " ")
	}
}

// clauses sort as upstream's do: by quality, but whatever names a type goes before what does not.
type clauses []clause

func (c clauses) Len() int      { return len(c) }
func (c clauses) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c clauses) Less(i, j int) bool {
	a, b := &c[i], &c[j]
	return a.quality > b.quality || a.kind != "*" && b.kind == "*" || a.subtype != "*" && b.subtype == "*"
}

// Accept picks what to answer for an Accept header among formats. ok is false when nothing fits.
func Accept(header string, formats []Format, allowed Allowed) (Accepted, bool) {
	if header == "" {
		return Accepted{Format: formats[0]}, true
	}
	for _, c := range parseAccept(header) {
		for _, f := range formats {
			kind, subtype, _ := strings.Cut(string(f), "/")
			if c.kind != kind && (c.kind != "*" || c.subtype != "*") || c.subtype != "*" && c.subtype != subtype {
				continue
			}
			if a, ok := c.accept(f, allowed); ok {
				return a, true
			}
		}
	}
	return Accepted{}, false
}

func (c *clause) accept(f Format, allowed Allowed) (Accepted, bool) {
	out, projected := Accepted{Format: f}, false
	for key, value := range c.params {
		switch key {
		case "as":
			out.As, projected = value, true
		case "g":
			out.GroupVersion.Group, projected = value, true
		case "v":
			out.GroupVersion.Version, projected = value, true
		case "stream":
			if value != "watch" || f == YAML { // Documents of YAML have no stream.
				return out, false
			}
		case "profile":
			out.Profile = value
		case "pretty":
			out.Pretty = value == "1"
		}
	}
	return out, (out.As != "" || !projected) && allowed(f, out.As, out.GroupVersion)
}

// Unprojected is the Allowed of what is served as it is only.
func Unprojected(_ Format, as string, _ schema.GroupVersion) bool { return as == "" }

// MetaProjection is the usual Allowed: tables, which have no protobuf form, and partial objects.
func MetaProjection(f Format, as string, gv schema.GroupVersion) bool {
	if as == "" {
		return true
	}
	if gv.Group != groupMeta || gv.Version != "v1" && gv.Version != "v1beta1" {
		return false
	}
	return as == AsTable && f != Protobuf || as == AsPartial || as == AsPartialList
}

// DiscoveryProjection allows aggregated discovery.
func DiscoveryProjection(_ Format, as string, gv schema.GroupVersion) bool {
	return as == "" || as == AsGroupDiscovery && gv.Group == groupAPIDiscovery && (gv.Version == "v2" || gv.Version == "v2beta1")
}

// Media picks one of some media types for an Accept header, without a look at parameters but the quality; ok is false when none fits.
func Media(header string, types []string) (media string, ok bool) {
	if header == "" {
		return types[0], true
	}
	for _, c := range parseAccept(header) {
		for _, t := range types {
			if kind, subtype, _ := strings.Cut(t, "/"); (c.kind == kind || c.kind == "*") && (c.subtype == subtype || c.subtype == "*") {
				return t, true
			}
		}
	}
	return "", false
}

// Produces tells whether an Accept header names one of some media types, parameters aside: upstream's router looks at no more before a handler
// negotiates.
func Produces(header string, types []string) bool {
	if header == "" {
		return true
	}
	for part := range strings.SplitSeq(header, ",") {
		media, _, _ := strings.Cut(part, ";")
		if media = strings.Trim(media, " "); media == "*/*" || slices.Contains(types, media) {
			return true
		}
	}
	return false
}

// ContentFormat maps a Content-Type header to the format of a body; an empty header means JSON.
func ContentFormat(header string) (Format, bool) {
	if header == "" {
		return JSON, true
	}
	full, _, err := mime.ParseMediaType(header)
	if err != nil {
		return "", false
	}
	f := Format(full)
	return f, slices.Contains(Formats, f)
}
