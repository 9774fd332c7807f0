// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package images makes the images of containers present on the node, and removes those that are no longer used when the disk
// fills up.
package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Waiting reasons of containers whose image can't be had.
const (
	ReasonPull        = "ErrImagePull"
	ReasonNeverPull   = "ErrImageNeverPull"
	ReasonInspect     = "ImageInspectError"
	ReasonInvalidName = "InvalidImageName"
	reasonRegistry    = "RegistryUnavailable"
	reasonSignature   = "SignatureValidationFailed"
)

// Error says why an image can't be had.
type Error struct {
	// Reason is the container's waiting reason.
	Reason, Message string
}

func (e *Error) Error() string { return e.Message }

// Puller makes images present. It is safe for concurrent use.
type Puller struct {
	images  runtimeapi.ImageServiceClient
	records *records
	slots   chan struct{} // one per pull that may run at once
	now     func() time.Time

	mu    sync.Mutex
	pulls map[string]*pull // by image and credentials
	// used remembers when each image reference was last needed, for garbage collection.
	used map[string]time.Time
}

// pull is one pull that several containers may wait for.
type pull struct {
	done chan struct{}
	took time.Duration
	err  error
}

// NewPuller makes a puller that runs at most parallel pulls at once.
func NewPuller(images runtimeapi.ImageServiceClient, parallel int, verification Verification) *Puller {
	if verification.Policy == "" {
		verification.Policy = kubeletconfig.NeverVerifyPreloadedImages
	}
	return &Puller{images: images, records: &records{config: verification}, slots: make(chan struct{}, max(parallel, 1)), now: time.Now, pulls: map[string]*pull{}, used: map[string]time.Time{}}
}

// Request is one container's need of an image.
type Request struct {
	Image   string
	Policy  corev1.PullPolicy
	Secrets []*corev1.Secret
	Handler string
	Sandbox *runtimeapi.PodSandboxConfig
	// Event reports progress to the container's events.
	Event func(eventType, reason, message string)
}

// Image is an image that is present.
type Image struct {
	// Ref is what the runtime knows it by, ID its identity.
	Ref, ID string
	// UID and User are the image's own user.
	UID  *int64
	User string
}

// Ensure makes the image present as its policy says. A failure is an *Error.
func (p *Puller) Ensure(ctx context.Context, r Request) (Image, error) {
	name, err := WithTag(r.Image)
	if err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: %v", r.Image, err)
		r.Event(corev1.EventTypeWarning, "InspectFailed", message)
		return Image{}, &Error{ReasonInvalidName, message}
	}
	found, err := p.status(ctx, name, r.Handler)
	if err != nil {
		message := fmt.Sprintf("Failed to inspect image %q: %v", name, status.Convert(err).Message())
		r.Event(corev1.EventTypeWarning, "InspectFailed", message)
		return Image{}, &Error{ReasonInspect, message}
	}
	policy := r.Policy
	if policy == "" {
		policy = defaultPolicy(r.Image)
	}
	allowed := found != nil && p.records.allows(name, found.GetId(), lookup(r.Secrets, name))
	if allowed && policy != corev1.PullAlways {
		r.Event(corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", r.Image))
		return p.present(found), nil
	}
	if policy == corev1.PullNever {
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", r.Image)
		r.Event(corev1.EventTypeWarning, "ErrImageNeverPull", message)
		return Image{}, &Error{ReasonNeverPull, message}
	}
	return p.pullAndInspect(ctx, name, r)
}

func (p *Puller) pullAndInspect(ctx context.Context, name string, r Request) (Image, error) {
	r.Event(corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", r.Image))
	began := p.now()
	took, err := p.pull(ctx, name, r)
	if err != nil {
		reason, message := explain(r.Image, err)
		r.Event(corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", r.Image, message))
		return Image{}, &Error{reason, message}
	}
	found, err := p.status(ctx, name, r.Handler)
	if err == nil && found == nil {
		err = fmt.Errorf("image %q is missing after it was pulled", name)
	}
	if err != nil {
		return Image{}, &Error{ReasonInspect, err.Error()}
	}
	r.Event(corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
		r.Image, took.Truncate(time.Millisecond), p.now().Sub(began).Truncate(time.Millisecond), found.GetSize()))
	return p.present(found), nil
}

// explain turns a runtime's error into a waiting reason and a message.
func explain(image string, err error) (reason, message string) {
	text := status.Convert(err).Message()
	switch {
	case strings.HasPrefix(text, reasonRegistry):
		return reasonRegistry, fmt.Sprintf("image pull failed for %s because the registry is unavailable: %s", image, strings.TrimPrefix(text, reasonRegistry+": "))
	case strings.HasPrefix(text, reasonSignature):
		return reasonSignature, fmt.Sprintf("image pull failed for %s because the signature validation failed: %s", image, strings.TrimPrefix(text, reasonSignature+": "))
	}
	return ReasonPull, text
}

func (p *Puller) present(i *runtimeapi.Image) Image {
	out := Image{Ref: i.GetId(), ID: i.GetId(), User: i.GetUsername()}
	switch {
	case i.GetUid() != nil:
		uid := i.GetUid().GetValue()
		out.UID = &uid
	case out.User == "":
		out.UID = new(int64) // an image that names no user runs as root
	}
	p.mu.Lock()
	p.used[i.GetId()] = p.now()
	p.mu.Unlock()
	return out
}

func (p *Puller) status(ctx context.Context, name, handler string) (*runtimeapi.Image, error) {
	r, err := p.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name, RuntimeHandler: handler}})
	if err != nil {
		return nil, err
	}
	return r.GetImage(), nil
}

// pull pulls once for all that ask for the same image with the same secrets at the same time. It returns how long it took.
func (p *Puller) pull(ctx context.Context, name string, r Request) (time.Duration, error) {
	credentials := lookup(r.Secrets, name)
	parts := []string{name, r.Handler}
	for _, c := range credentials {
		parts = append(parts, c.auth.Username, c.auth.Password, c.auth.IdentityToken)
	}
	key := strings.Join(parts, "\x00")
	p.mu.Lock()
	running := p.pulls[key]
	if running == nil {
		running = &pull{done: make(chan struct{})}
		p.pulls[key] = running
		// The pull outlives a container that gives up: others may wait, and the layers are wanted again soon.
		go p.run(context.WithoutCancel(ctx), key, running, name, r, credentials)
	}
	p.mu.Unlock()
	select {
	case <-running.done:
		return running.took, running.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (p *Puller) run(ctx context.Context, key string, running *pull, name string, r Request, credentials []credential) {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	began := p.now()
	spec := &runtimeapi.ImageSpec{Image: name, RuntimeHandler: r.Handler, UserSpecifiedImage: r.Image}
	running.err = p.records.begin(name)
	var used *credential
	if running.err == nil && len(credentials) == 0 {
		running.err = p.pullBy(ctx, spec, nil, r.Sandbox)
	}
	for i := range credentials {
		used = &credentials[i]
		if running.err = p.pullBy(ctx, spec, used.auth, r.Sandbox); running.err == nil {
			break
		}
	}
	running.err = errors.Join(running.err, p.recordPull(ctx, name, r.Handler, used, running.err))
	running.took = p.now().Sub(began)
	p.mu.Lock()
	delete(p.pulls, key)
	p.mu.Unlock()
	close(running.done)
}

func (p *Puller) pullBy(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) error {
	_, err := p.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec, Auth: auth, SandboxConfig: sandbox})
	return err
}

// recordPull notes how a pull ended. A pull that can't be recorded must not be relied on.
func (p *Puller) recordPull(ctx context.Context, name, handler string, used *credential, failure error) error {
	id := ""
	if failure == nil {
		found, err := p.status(ctx, name, handler)
		if err != nil {
			return err
		}
		id = found.GetId()
	}
	if err := p.records.end(name, id, used, p.now()); err != nil {
		return fmt.Errorf("record pull of %s: %w", name, err)
	}
	return nil
}

// defaultPolicy is Always for the latest tag, else IfNotPresent.
func defaultPolicy(image string) corev1.PullPolicy {
	name, err := WithTag(image)
	if err == nil && strings.HasSuffix(name, ":latest") && !strings.Contains(image, "@") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// WithTag completes an image name by the latest tag if it has neither tag nor digest.
func WithTag(image string) (string, error) {
	if image == "" || strings.ContainsAny(image, " \t\n") {
		return "", fmt.Errorf("couldn't parse image name %q: invalid reference format", image)
	}
	name, _, digested := strings.Cut(image, "@")
	last := name[strings.LastIndexByte(name, '/')+1:]
	repository, _, tagged := strings.Cut(last, ":")
	if repository == "" || strings.ToLower(repository) != repository || strings.HasSuffix(name, ":") {
		return "", fmt.Errorf("couldn't parse image name %q: invalid reference format", image)
	}
	if digested || tagged {
		return image, nil
	}
	return image + ":latest", nil
}
