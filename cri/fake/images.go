// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// imageService is the client side of the ImageService.
type imageService struct{ f *Runtime }

var _ runtimeapi.ImageServiceClient = imageService{}

// imageSize is the size that every image here has, in bytes.
const imageSize = 1 << 20

// AddImage stores an image under a name, as an import would.
func (f *Runtime) AddImage(image *runtimeapi.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[image.Id] = proto.CloneOf(image)
}

// storeImageLocked makes an image whose identity follows from its name.
func (f *Runtime) storeImageLocked(name string) *runtimeapi.Image {
	sum := sha256.Sum256([]byte("config of " + name))
	id := fmt.Sprintf("sha256:%x", sum)
	if image, ok := f.images[id]; ok {
		return image
	}
	repository, digest, byDigest := strings.Cut(name, "@")
	if !byDigest {
		manifest := sha256.Sum256([]byte("manifest of " + name))
		digest = fmt.Sprintf("sha256:%x", manifest)
		if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
			repository = name[:i]
		} else {
			name += ":latest"
		}
	}
	image := &runtimeapi.Image{
		Id: id, RepoDigests: []string{repository + "@" + digest}, Size: imageSize,
		Spec: &runtimeapi.ImageSpec{Image: id}, Uid: &runtimeapi.Int64Value{Value: 0},
	}
	if !byDigest {
		image.RepoTags = []string{name}
	}
	f.images[id] = image
	return image
}

// findImageLocked finds an image by identifier, tag or digest. A name without a tag means latest.
func (f *Runtime) findImageLocked(name string) *runtimeapi.Image {
	for id, image := range f.images {
		if name != "" && (id == name || strings.TrimPrefix(id, "sha256:") == name) ||
			slices.Contains(image.RepoTags, name) || slices.Contains(image.RepoTags, name+":latest") || slices.Contains(image.RepoDigests, name) {
			return image
		}
	}
	return nil
}

func (s imageService) PullImage(ctx context.Context, in *runtimeapi.PullImageRequest, _ ...grpc.CallOption) (*runtimeapi.PullImageResponse, error) {
	if err := s.f.failure("PullImage"); err != nil {
		return nil, err
	}
	name := in.GetImage().GetImage()
	if name == "" {
		return nil, status.Error(codes.Unknown, `failed to parse image reference "": invalid reference format`)
	}
	if s.f.config.Pull != nil {
		delay, err := s.f.config.Pull(name)
		if delay > 0 {
			select {
			case <-ctx.Done():
				return nil, status.FromContextError(ctx.Err()).Err()
			case <-time.After(delay):
			}
		}
		if err != nil {
			return nil, err
		}
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.pulls[name]++
	return &runtimeapi.PullImageResponse{ImageRef: s.f.storeImageLocked(name).Id}, nil
}

func (s imageService) ListImages(_ context.Context, in *runtimeapi.ListImagesRequest, _ ...grpc.CallOption) (*runtimeapi.ListImagesResponse, error) {
	if err := s.f.failure("ListImages"); err != nil {
		return nil, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	out := &runtimeapi.ListImagesResponse{}
	if name := in.GetFilter().GetImage().GetImage(); name != "" {
		if image := s.f.findImageLocked(name); image != nil {
			out.Images = append(out.Images, proto.CloneOf(image))
		}
		return out, nil
	}
	for _, image := range s.f.images {
		out.Images = append(out.Images, proto.CloneOf(image))
	}
	slices.SortFunc(out.Images, func(a, b *runtimeapi.Image) int { return strings.Compare(a.Id, b.Id) })
	return out, nil
}

func (s imageService) ImageStatus(_ context.Context, in *runtimeapi.ImageStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ImageStatusResponse, error) {
	if err := s.f.failure("ImageStatus"); err != nil {
		return nil, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	out := &runtimeapi.ImageStatusResponse{}
	if image := s.f.findImageLocked(in.GetImage().GetImage()); image != nil {
		out.Image = proto.CloneOf(image)
	}
	return out, nil
}

func (s imageService) RemoveImage(_ context.Context, in *runtimeapi.RemoveImageRequest, _ ...grpc.CallOption) (*runtimeapi.RemoveImageResponse, error) {
	if err := s.f.failure("RemoveImage"); err != nil {
		return nil, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if image := s.f.findImageLocked(in.GetImage().GetImage()); image != nil {
		delete(s.f.images, image.Id)
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}

func (s imageService) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest, ...grpc.CallOption) (*runtimeapi.ImageFsInfoResponse, error) {
	if err := s.f.failure("ImageFsInfo"); err != nil {
		return nil, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	var used uint64
	for _, image := range s.f.images {
		used += image.Size
	}
	usage := &runtimeapi.FilesystemUsage{
		Timestamp: time.Now().UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/"},
		UsedBytes: &runtimeapi.UInt64Value{Value: used}, InodesUsed: &runtimeapi.UInt64Value{Value: uint64(len(s.f.images))},
	}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{usage}, ContainerFilesystems: []*runtimeapi.FilesystemUsage{usage}}, nil
}
