// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Collection says what is to be removed.
type Collection struct {
	// Used holds ids and names of the images that containers have.
	Used map[string]bool
	// Bytes is how much is to be freed; zero removes by age alone.
	Bytes uint64
	// MinimumAge protects images that were seen or used lately; zero protects none. MaximumAge removes images that were not used for so
	// long even without need; zero does not.
	MinimumAge, MaximumAge time.Duration
}

// Collect removes images that nothing uses, the longest unused first. Pinned images stay. It returns how much was freed.
func (p *Puller) Collect(ctx context.Context, c Collection) (freed uint64, err error) {
	r, err := p.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return 0, fmt.Errorf("list images: %w", err)
	}
	now := p.now()
	type candidate struct {
		id   string
		size uint64
		last time.Time
	}
	var list []candidate
	p.mu.Lock()
	present := map[string]bool{}
	for _, i := range r.GetImages() {
		present[i.GetId()] = true
		last, seen := p.used[i.GetId()]
		if !seen || inUse(c.Used, i) {
			last = now
			p.used[i.GetId()] = now
		}
		if !i.GetPinned() && !inUse(c.Used, i) {
			list = append(list, candidate{i.GetId(), i.GetSize(), last})
		}
	}
	for id := range p.used {
		if !present[id] {
			delete(p.used, id)
		}
	}
	p.mu.Unlock()
	if err := p.records.prune(present); err != nil {
		return 0, fmt.Errorf("drop records of images that are gone: %w", err)
	}
	slices.SortFunc(list, func(a, b candidate) int { return a.last.Compare(b.last) })
	var errs []error
	for _, i := range list {
		age := now.Sub(i.last)
		old := c.MaximumAge > 0 && age > c.MaximumAge
		if !old && (freed >= c.Bytes || age < c.MinimumAge) {
			continue
		}
		if _, err := p.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: i.id}}); err != nil {
			errs = append(errs, fmt.Errorf("remove image %s: %w", i.id, err))
			continue
		}
		freed += i.size
	}
	return freed, errors.Join(errs...)
}

func inUse(used map[string]bool, i *runtimeapi.Image) bool {
	return used[i.GetId()] || slices.ContainsFunc(i.GetRepoTags(), func(s string) bool { return used[s] }) ||
		slices.ContainsFunc(i.GetRepoDigests(), func(s string) bool { return used[s] })
}
