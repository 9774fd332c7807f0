// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/internal/nearest"
	"kogge.dev/kogge/kinds"
)

// classes are the keys that stand for many group-versions, in the order in which they apply.
var classes = []string{"api/all", "api/ga", "api/beta", "api/alpha"}

// inClass tells whether a class has a version.
func inClass(class, version string) bool {
	beta, alpha := strings.Contains(version, "beta"), strings.Contains(version, "alpha")
	switch class {
	case "api/beta":
		return beta
	case "api/alpha":
		return alpha
	case "api/ga":
		return !beta && !alpha
	default:
		return true
	}
}

// missing are the resources that v1.36 serves on request, with a feature gate besides, and that are not there.
func missing() map[string][]string {
	return map[string][]string{
		"certificates.k8s.io/v1alpha1":    {"clustertrustbundles"},
		"certificates.k8s.io/v1beta1":     {"clustertrustbundles", "podcertificaterequests"},
		"scheduling.k8s.io/v1alpha2":      {"podgroups", "workloads"},
		"storagemigration.k8s.io/v1beta1": {"storageversionmigrations"},
	}
}

// choice is what a runtime configuration says: by class, by group-version, and by group-version and resource, which has the last word.
type choice struct {
	classes   map[string]bool
	versions  map[schema.GroupVersion]bool
	resources map[schema.GroupVersionResource]bool
}

// on tells whether a resource is served in a version.
func (c *choice) on(gvr schema.GroupVersionResource, byDefault bool) bool {
	out := byDefault
	for _, class := range classes {
		if on, said := c.classes[class]; said && inClass(class, gvr.Version) {
			out = on
		}
	}
	if on, said := c.versions[gvr.GroupVersion()]; said {
		out = on
	}
	if on, said := c.resources[gvr]; said {
		out = on
	}
	return out
}

// Serving makes the catalog that kube-apiserver's runtime configuration asks for: true or false (empty is true) by api/all, api/ga, api/beta
// or api/alpha, by group/version, or by group/version/resource. Its errors name the key. The version that a kind is stored in stays served:
// the components of the cluster speak it.
func Serving(config map[string]string) (*Catalog, error) {
	all := Known()
	asked, err := parse(config, all)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		if err := asked.apply(k); err != nil {
			return nil, err
		}
	}
	return assemble(all), nil
}

// apply decides which versions of k are served. What is turned off can be read all the same.
func (c *choice) apply(k *kinds.Kind) error {
	var served, off []kinds.Served
	for i, s := range slices.Concat(k.Served, k.OnRequest) {
		byDefault := i < len(k.Served)
		on := c.on(s.GroupVersion().WithResource(k.Resource), byDefault)
		if byDefault && !on && (len(k.Served) == 1 || s.GroupVersionKind == k.Storage.GroupVersionKind) {
			return fmt.Errorf("%s of %s can't be turned off: kogge's own components need it", k.Resource, s.GroupVersion())
		}
		if on {
			served = append(served, s)
		} else {
			off = append(off, s)
		}
	}
	k.Served, k.OnRequest = served, off
	return nil
}

func parse(config map[string]string, all []*kinds.Kind) (*choice, error) {
	out := &choice{classes: map[string]bool{}, versions: map[schema.GroupVersion]bool{}, resources: map[schema.GroupVersionResource]bool{}}
	known := keys(all)
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(config)) {
		on, err := strconv.ParseBool(cmp.Or(config[key], "true"))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %q is not true or false", key, config[key]))
		case !slices.Contains(known, key):
			errs = append(errs, unknown(key, known))
		case strings.HasPrefix(key, "api/"):
			out.classes[key] = on
		default:
			out.set(key, on)
		}
	}
	return out, errors.Join(errs...)
}

// set notes a key of two or three parts. That of the core group begins with a slash.
func (c *choice) set(key string, on bool) {
	parts := strings.Split(key, "/")
	gv := schema.GroupVersion{Group: parts[0], Version: parts[1]}
	if len(parts) == 2 {
		c.versions[gv] = on
	} else {
		c.resources[gv.WithResource(parts[2])] = on
	}
}

// keys lists everything that can be asked for.
func keys(all []*kinds.Kind) []string {
	out := slices.Clone(classes)
	for _, k := range all {
		for _, s := range slices.Concat(k.Served, k.OnRequest) {
			gv := s.Group + "/" + s.Version
			out = append(out, gv, gv+"/"+k.Resource)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unknown says why a key asks for nothing that is there.
func unknown(key string, known []string) error {
	for gv, resources := range missing() {
		resource, below := strings.CutPrefix(key, gv+"/")
		if key == gv {
			return fmt.Errorf("%s: kogge has no %s", key, strings.Join(resources, ", no "))
		}
		if below && slices.Contains(resources, resource) {
			return fmt.Errorf("%s: kogge has no %s", key, resource)
		}
	}
	if meant := nearest.To(key, known); meant != "" {
		return fmt.Errorf("%s is not served, not on request either; did you mean %s?", key, meant)
	}
	return fmt.Errorf("%s is not served, not on request either", key)
}
