// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/kubelet/images"
)

// maxImageNames bounds the names of one image in the node's status.
const maxImageNames = 5

// imageList is what the node's status says of images, the largest first.
func (k *Kubelet) imageList(ctx context.Context) ([]corev1.ContainerImage, bool) {
	r, err := k.config.Runtime.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, false
	}
	list := r.GetImages()
	slices.SortStableFunc(list, func(a, b *runtimeapi.Image) int {
		switch {
		case a.GetSize() > b.GetSize():
			return -1
		case a.GetSize() < b.GetSize():
			return 1
		case a.GetId() < b.GetId():
			return -1
		}
		return 1
	})
	if limit := int(*k.config.Settings.NodeStatusMaxImages); limit >= 0 && len(list) > limit {
		list = list[:limit]
	}
	out := make([]corev1.ContainerImage, 0, len(list))
	for _, i := range list {
		names := slices.Concat(i.GetRepoDigests(), i.GetRepoTags())
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), maxImageNames)], SizeBytes: int64(i.GetSize())})
	}
	return out, true
}

// imageSample is how often the disk of images is looked at.
const imageSample = 5 * time.Minute

// collectImages removes unused images when their disk is nearly full, or when they have not been used for long.
func (k *Kubelet) collectImages(ctx context.Context) {
	ticker := time.NewTicker(imageSample)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		fs := statFilesystem(existing(k.imageRoot(ctx)))
		if fs.total == 0 {
			continue
		}
		s := &k.config.Settings
		used := 100 - fs.available*100/fs.total
		free := uint64(0)
		if used >= uint64(*s.ImageGCHighThresholdPercent) {
			keep := fs.total * (100 - uint64(*s.ImageGCLowThresholdPercent)) / 100
			if keep > fs.available {
				free = keep - fs.available
			}
		}
		if free == 0 && s.ImageMaximumGCAge.Duration == 0 {
			continue
		}
		if freed, err := k.removeImages(ctx, free); err != nil {
			k.log.Warn("images can't be collected", "err", err)
		} else if free > 0 && freed < free {
			k.nodeEvent(corev1.EventTypeWarning, "FreeDiskSpaceFailed", "Failed to garbage collect required amount of images.")
		}
	}
}

// imageRoot is where the runtime keeps images.
func (k *Kubelet) imageRoot(ctx context.Context) string {
	r, err := k.config.Runtime.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err == nil {
		for _, fs := range r.GetImageFilesystems() {
			return fs.GetFsId().GetMountpoint()
		}
	}
	return k.config.Root
}

// removeImages frees at least so many bytes, the longest unused images first; those in use or pinned stay.
func (k *Kubelet) removeImages(ctx context.Context, bytes uint64) (freed uint64, err error) {
	used := map[string]bool{}
	containers, err := k.config.Runtime.Containers.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return 0, err
	}
	for _, c := range containers.GetContainers() {
		used[c.GetImageRef()], used[c.GetImage().GetImage()], used[c.GetImageId()] = true, true, true
	}
	return k.puller.Collect(ctx, images.Collection{
		Used: used, Bytes: bytes, MinimumAge: k.config.Settings.ImageMinimumGCAge.Duration, MaximumAge: k.config.Settings.ImageMaximumGCAge.Duration,
	})
}
