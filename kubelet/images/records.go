// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Verification says for which images that are present a pod has to show credentials (KEP-2535).
type Verification struct {
	Policy kubeletconfig.ImagePullCredentialsVerificationPolicy
	// Allowed are image names without tag, or prefixes that end in "/*", for the policy NeverVerifyAllowlistedImages.
	Allowed []string
	// Dir holds the records of pulls; upstream's <root>/image_manager.
	Dir string
}

// Folders of the records, and the prefix of their files' names.
const (
	pulledDir  = "pulled"
	pullingDir = "pulling"
	filePrefix = "sha256-"
)

// mostSecrets bounds how many secrets one record remembers.
const mostSecrets = 100

// records remember with which credentials images were pulled, so that a pod gets no image that others had to pay for by a secret.
// An image without a record was there before; while an intent lies there, it may have come by a pull that was cut off.
type records struct {
	config Verification
	mu     sync.Mutex // held while files are read and written
}

func fileOf(name string) string { return fmt.Sprintf("%s%x", filePrefix, sha256.Sum256([]byte(name))) }

// repository is an image's name without tag and digest: access is granted per repository.
func repository(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

// allows reports whether a pod with these credentials may use an image that is present.
func (r *records) allows(image, id string, credentials []credential) bool {
	switch r.config.Policy {
	case kubeletconfig.NeverVerify:
		return true
	case kubeletconfig.NeverVerifyAllowlistedImages:
		name := repository(image)
		if slices.ContainsFunc(r.config.Allowed, func(pattern string) bool {
			prefix, wild := strings.CutSuffix(pattern, "*")
			return pattern == name || wild && strings.HasPrefix(name, prefix)
		}) {
			return true
		}
	case kubeletconfig.AlwaysVerify, kubeletconfig.NeverVerifyPreloadedImages:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	record, err := r.read(id)
	if err != nil {
		return false // pulled anew, which proves what can't be read
	}
	if record == nil {
		_, err := os.Stat(filepath.Join(r.config.Dir, pullingDir, fileOf(image)))
		return r.config.Policy == kubeletconfig.NeverVerifyPreloadedImages && errors.Is(err, fs.ErrNotExist)
	}
	access, ok := record.CredentialMapping[repository(image)]
	if !ok {
		return false
	}
	if access.NodePodsAccessible {
		return true
	}
	return slices.ContainsFunc(credentials, func(c credential) bool {
		mine := c.secretRef()
		return slices.ContainsFunc(access.KubernetesSecrets, func(s kubeletconfig.ImagePullSecret) bool {
			return s.CredentialHash == mine.CredentialHash || s.UID == mine.UID && s.Namespace == mine.Namespace && s.Name == mine.Name
		})
	})
}

func (r *records) read(id string) (*kubeletconfig.ImagePulledRecord, error) {
	data, err := os.ReadFile(filepath.Join(r.config.Dir, pulledDir, fileOf(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	record := &kubeletconfig.ImagePulledRecord{}
	return record, json.Unmarshal(data, record)
}

// begin leaves word that a pull is under way, before it has any effect.
func (r *records) begin(image string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(pullingDir, image, &kubeletconfig.ImagePullIntent{
		TypeMeta: metav1.TypeMeta{APIVersion: kubeletconfig.SchemeGroupVersion.String(), Kind: "ImagePullIntent"}, Image: image,
	})
}

// end records a pull that succeeded: by a credential, or by none, after which every pod of the node may use the image. An empty
// id stands for a pull that failed.
func (r *records) end(image, id string, used *credential, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id != "" {
		if err := r.grant(image, id, used, now); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(r.config.Dir, pullingDir, fileOf(image))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *records) grant(image, id string, used *credential, now time.Time) error {
	record, err := r.read(id)
	if err != nil || record == nil {
		record = &kubeletconfig.ImagePulledRecord{ // a broken one is replaced
			TypeMeta: metav1.TypeMeta{APIVersion: kubeletconfig.SchemeGroupVersion.String(), Kind: "ImagePulledRecord"}, ImageRef: id,
		}
	}
	if record.CredentialMapping == nil {
		record.CredentialMapping = map[string]kubeletconfig.ImagePullCredentials{}
	}
	access := record.CredentialMapping[repository(image)]
	switch {
	case used == nil:
		access = kubeletconfig.ImagePullCredentials{NodePodsAccessible: true}
	case !access.NodePodsAccessible:
		mine := used.secretRef()
		access.KubernetesSecrets = slices.DeleteFunc(access.KubernetesSecrets, func(s kubeletconfig.ImagePullSecret) bool {
			return s.UID == mine.UID && s.Namespace == mine.Namespace && s.Name == mine.Name
		})
		access.KubernetesSecrets = append(access.KubernetesSecrets, mine)
		if extra := len(access.KubernetesSecrets) - mostSecrets; extra > 0 {
			access.KubernetesSecrets = access.KubernetesSecrets[extra:]
		}
	}
	record.CredentialMapping[repository(image)] = access
	record.LastUpdatedTime = metav1.NewTime(now)
	return r.write(pulledDir, id, record)
}

func (r *records) write(dir, name string, object any) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	folder := filepath.Join(r.config.Dir, dir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	path := filepath.Join(folder, fileOf(name))
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// prune drops the records of images that are gone.
func (r *records) prune(present map[string]bool) error {
	keep := map[string]bool{}
	for id := range present {
		keep[fileOf(id)] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	entries, err := os.ReadDir(filepath.Join(r.config.Dir, pulledDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filePrefix) && !keep[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(r.config.Dir, pulledDir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// hashOf identifies a credential without telling it.
func hashOf(auth *runtimeapi.AuthConfig) string {
	data, err := json.Marshal([]string{auth.GetUsername(), auth.GetPassword(), auth.GetIdentityToken()})
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}
