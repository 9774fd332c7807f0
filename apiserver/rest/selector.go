// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metainternalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	operator "k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store/cache"
)

// selection is what list, watch and deletecollection select.
type selection struct {
	target *Target
	labels labels.Selector
	fields fields.Selector
	// key is set when exactly one object can match.
	key    string
	prefix string
	// everything is set when no selector narrows the prefix.
	everything bool
}

// selection parses the selectors of a call.
func (c *Call) selection(opts *metav1.ListOptions) (*selection, error) {
	s := &selection{target: c.Target, labels: labels.Everything(), fields: fields.Everything(), prefix: c.Target.prefix}
	var err error
	if opts.LabelSelector != "" {
		if s.labels, err = labels.Parse(opts.LabelSelector); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if opts.FieldSelector != "" {
		if s.fields, err = fields.ParseSelector(opts.FieldSelector); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if s.fields, err = s.fields.Transform(c.Target.fieldLabel); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if c.Name != "" {
		if selected, ok := s.fields.RequiresExactMatch("metadata.name"); !s.fields.Empty() && (!ok || selected != c.Name) {
			return nil, apierrors.NewBadRequest("fieldSelector metadata.name doesn't match requested name")
		}
		if s.fields.Empty() {
			s.fields = fields.OneTermEqualSelector("metadata.name", c.Name)
		}
	}
	namespace := c.Namespace
	if c.Target.Kind.Namespaced {
		if one, ok := s.fields.RequiresExactMatch("metadata.namespace"); ok && namespace == "" && one != "" && !strings.Contains(one, "/") {
			namespace = one
		}
		if namespace != "" {
			s.prefix += namespace + "/"
		}
	}
	if name, ok := s.fields.RequiresExactMatch("metadata.name"); ok && name != "" && !strings.Contains(name, "/") && (namespace != "" || !c.Target.Kind.Namespaced) {
		s.key = c.Target.key(namespace, name)
	}
	s.everything = s.labels.Empty() && s.fields.Empty()
	return s, nil
}

// named tells whether the key says all that is selected.
func (s *selection) named() bool {
	return s.key != "" && s.labels.Empty() && len(s.fields.Requirements()) == 1 // That of the name.
}

// filter judges entries; nil lets all through. What can't be decoded is let through, so that the error shows. Labels alone are read from the stored
// bytes, so that nothing needs to be kept of each object for it. They are looked through for each requirement: so a selector with many is for the
// attributes, which find at once.
func (s *selection) filter() func(*cache.Entry) bool {
	if s.everything {
		return nil
	}
	judge := func(e *cache.Entry) bool {
		l, f, err := s.target.attrsOf(e)
		return err != nil || s.labels.Matches(l) && s.fields.Matches(f)
	}
	const few = 4
	if requirements, _ := s.labels.Requirements(); !s.fields.Empty() || len(requirements) > few {
		return judge
	}
	marks := s.marks()
	return func(e *cache.Entry) bool {
		if v := s.target.verdict(e); v&cache.Yes != 0 && v&marks != marks {
			return false
		}
		if stored, ok := s.target.asStored(e); ok {
			return s.labels.Matches(stored.Labels())
		}
		return judge(e)
	}
}

// marks are those that all labels have which match.
func (s *selection) marks() (marks cache.Verdict) {
	requirements, _ := s.labels.Requirements()
	for i := range requirements {
		r := &requirements[i]
		switch r.Operator() {
		case operator.Equals, operator.DoubleEquals, operator.In:
			if values := r.ValuesUnsorted(); len(values) == 1 {
				marks |= cache.Verdict(codec.LabelMark(r.Key(), values[0]))
			}
		default: // The others are not about one value.
		}
	}
	return marks
}

// attrsOf are the labels and selectable fields of an entry at the target's version. A custom resource's other versions have
// fields of their own; a conversion may ask a webhook, so they are found once per revision.
func (t *Target) attrsOf(e *cache.Entry) (labels.Set, fields.Set, error) {
	l, f, err := e.Attrs()
	if err != nil || t.Custom == nil || t.Served.GroupVersionKind == t.Kind.Storage.GroupVersionKind {
		return l, f, err
	}
	own := t.selectable()
	if own == nil {
		return l, f, nil
	}
	names := slices.Sorted(maps.Keys(own(t.Served.Blank())))
	data, err := e.Encoded("fields;"+t.Served.GroupVersion().String()+";"+strings.Join(names, ";"), func() ([]byte, error) {
		obj, err := t.Object(e)
		if err != nil {
			return nil, err
		}
		return json.Marshal(own(obj))
	})
	if err != nil {
		return nil, nil, err
	}
	all := maps.Clone(f)
	return l, all, json.Unmarshal(data, &all)
}

// selectable returns the fields that the target's version can be selected by besides name and namespace; nil when there are none.
func (t *Target) selectable() func(kinds.Object) fields.Set {
	if t.Custom == nil {
		return t.Kind.Fields
	}
	return t.Custom.Fields(t.Served.GroupVersion())
}

// fieldLabel refuses field labels that the kind can't be selected by.
func (t *Target) fieldLabel(label, value string) (string, string, error) {
	switch label {
	case "metadata.name":
		return label, value, nil
	case "metadata.namespace":
		if t.Kind.Namespaced || t.Custom == nil && t.Kind.Fields == nil {
			return label, value, nil
		}
	case "spec.host":
		if t.Kind.Resource == "pods" && t.GVR.Group == "" {
			return "spec.nodeName", value, nil
		}
	case "status.podIPs": // which no pod has, for selectors.
		if t.Kind.Resource == "pods" && t.GVR.Group == "" {
			return label, value, nil
		}
	}
	if t.Served.FieldLabels != nil {
		if own, ok := t.Served.FieldLabels[label]; ok {
			return own, value, nil
		}
		return "", "", fmt.Errorf("field label not supported: %s", label)
	}
	known := t.selectable()
	if known == nil {
		if t.Custom != nil {
			return "", "", fmt.Errorf("field label not supported: %s", label)
		}
		return "", "", fmt.Errorf("%q is not a known field selector: only %q, %q", label, "metadata.name", "metadata.namespace")
	}
	sample := t.Kind.Storage.Blank
	if t.Custom != nil {
		sample = t.Served.Blank
	}
	if _, ok := known(sample())[label]; ok {
		return label, value, nil
	}
	switch t.GVR.GroupResource() {
	case schema.GroupResource{Group: "batch", Resource: "jobs"}:
		return "", "", fmt.Errorf("field label %q not supported for Job", label)
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}:
		return "", "", fmt.Errorf("field label not supported for %s: %s", t.Served.GroupVersionKind, label)
	}
	return "", "", fmt.Errorf("field label not supported: %s", label)
}

// listed returns the options of a list or watch, completed and checked, and what they select.
func (c *Call) listed(watch bool) (*metav1.ListOptions, *selection, error) {
	opts, err := listOptions(c.List, watch)
	if err != nil {
		return nil, nil, err
	}
	sel, err := c.selection(opts)
	return opts, sel, err
}

// listOptions completes and checks the options of list and watch.
func listOptions(in *metav1.ListOptions, watch bool) (*metav1.ListOptions, error) {
	opts := &metav1.ListOptions{}
	if in != nil {
		opts = in.DeepCopy()
	}
	internal := internalversion.ListOptions{
		Watch: watch, ResourceVersion: opts.ResourceVersion, ResourceVersionMatch: opts.ResourceVersionMatch,
		Continue: opts.Continue, SendInitialEvents: opts.SendInitialEvents,
	}
	internalversion.SetListOptionsDefaults(&internal, true)
	if errs := metainternalvalidation.ValidateListOptions(&internal, true); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	opts.SendInitialEvents, opts.ResourceVersionMatch = internal.SendInitialEvents, internal.ResourceVersionMatch
	return opts, nil
}

// parseVersion reads a resourceVersion; empty is 0 with set false. What is greater than any revision is the greatest.
func parseVersion(text string) (revision int64, set bool, err error) {
	if text == "" {
		return 0, false, nil
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, field.Invalid(field.NewPath("resourceVersion"), text, err.Error())
	}
	return int64(min(v, math.MaxInt64)), true, nil
}

// token is what a continue token holds: the revision that the pages are of, and the key to go on from, below the list's prefix.
type token struct {
	APIVersion string `json:"v"`
	Revision   int64  `json:"rv"`
	Start      string `json:"start"`
}

const tokenVersion = "meta.k8s.io/v1"

// inconsistent is the revision of a token whose own is gone: go on from the key, in what there is now.
const inconsistent = -1

func (t token) encode() string {
	data, err := json.Marshal(t)
	if err != nil {
		return "" // A struct of strings and an integer always encodes.
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// decodeToken reads a token that came from outside.
func decodeToken(text string) (token, error) {
	var t token
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return t, fmt.Errorf("continue key is not valid: %w", err)
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("continue key is not valid: %w", err)
	}
	if t.APIVersion != tokenVersion {
		return t, fmt.Errorf("continue key is not valid: server does not recognize this encoded version %v", t.APIVersion)
	}
	if t.Revision == 0 {
		return t, errors.New("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	}
	if strings.Trim(t.Start, "/") == "" {
		return t, errors.New("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
	}
	// The key is joined to the list's prefix: it must not climb out of it.
	if key := "/" + strings.TrimPrefix(t.Start, "/"); path.Clean(key) != key {
		return t, fmt.Errorf("continue key is not valid: %s", t.Start)
	}
	t.Start = strings.TrimPrefix(t.Start, "/")
	return t, nil
}
