// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// component is what is replaced, by kogge's name of it.
type component string

// Components.
const (
	controllers component = "controllers"
	scheduler   component = "scheduler"
	kubelet     component = "kubelet"
	proxy       component = "proxy"
)

// pairing is a cluster with one component that is not of the same origin as the API server and all the others.
type pairing struct {
	odd component
	// ours says that API server and all the others are kogge's, so that the odd one is upstream's.
	ours bool
}

// pairings are all of them.
var pairings = []pairing{
	{controllers, true},
	{scheduler, true},
	{kubelet, true},
	{proxy, true},
	{controllers, false},
	{scheduler, false},
	{kubelet, false},
	{proxy, false},
}

// foreign reports whether a component is upstream's.
func (p pairing) foreign(c component) bool { return (c == p.odd) == p.ours }

func (p pairing) name() string {
	if p.ours {
		return fmt.Sprintf("upstream's-%s-on-kogge", p.odd)
	}
	return fmt.Sprintf("kogge's-%s-on-upstream", p.odd)
}

func named(name string) (pairing, error) {
	for _, p := range pairings {
		if p.name() == name {
			return p, nil
		}
	}
	return pairing{}, fmt.Errorf("there is no pairing %q", name)
}
