// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"mime"
	"slices"
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

// clause is one media range of an Accept header.
type clause struct {
	kind, subtype string
	params        map[string]string
	quality       float64
}

func parseAccept(header string) []clause {
	var out []clause
	for part := range strings.SplitSeq(header, ",") {
		full, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue
		}
		c := clause{params: params, quality: 1}
		c.kind, c.subtype, _ = strings.Cut(full, "/")
		if c.subtype == "" {
			if c.kind != "*" {
				continue
			}
			c.subtype = "*"
		}
		if q, ok := params["q"]; ok {
			if v, err := strconv.ParseFloat(q, 64); err == nil {
				c.quality = v
			}
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b clause) int {
		if a.quality != b.quality {
			if a.quality > b.quality {
				return -1
			}
			return 1
		}
		return specificity(b) - specificity(a)
	})
	return out
}

func specificity(c clause) int {
	switch {
	case c.kind == "*":
		return 0
	case c.subtype == "*":
		return 1
	default:
		return 2
	}
}

// Accept picks what to answer for an Accept header among formats; allowed says which projections the endpoint can make. ok is false when
// nothing fits.
func Accept(header string, formats []Format, allowed func(as string, gv schema.GroupVersion) bool) (Accepted, bool) {
	if strings.TrimSpace(header) == "" {
		return Accepted{Format: formats[0]}, true
	}
	for _, c := range parseAccept(header) {
		for _, f := range formats {
			kind, subtype, _ := strings.Cut(string(f), "/")
			if c.kind != "*" && c.kind != kind || c.subtype != "*" && c.subtype != subtype {
				continue
			}
			if a, ok := c.accept(f, allowed); ok {
				return a, true
			}
		}
	}
	return Accepted{}, false
}

func (c clause) accept(f Format, allowed func(as string, gv schema.GroupVersion) bool) (Accepted, bool) {
	out := Accepted{Format: f}
	for key, value := range c.params {
		switch key {
		case "as":
			out.As = value
		case "g":
			out.GroupVersion.Group = value
		case "v":
			out.GroupVersion.Version = value
		case "profile":
			out.Profile = value
		case "pretty":
			out.Pretty = value == "1"
		}
	}
	if out.As == "" {
		out.GroupVersion = schema.GroupVersion{}
		return out, true
	}
	return out, allowed != nil && allowed(out.As, out.GroupVersion)
}

// MetaProjection is the usual allowed function of Accept: tables and partial objects.
func MetaProjection(as string, gv schema.GroupVersion) bool {
	if gv.Group != groupMeta || gv.Version != "v1" && gv.Version != "v1beta1" {
		return false
	}
	return as == AsTable || as == AsPartial || as == AsPartialList
}

// DiscoveryProjection allows aggregated discovery.
func DiscoveryProjection(as string, gv schema.GroupVersion) bool {
	return as == AsGroupDiscovery && gv.Group == groupAPIDiscovery && (gv.Version == "v2" || gv.Version == "v2beta1")
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
