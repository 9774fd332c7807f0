// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package configured reads an AdmissionConfiguration file (apiserver.config.k8s.io/v1): what the admission plugins that can be configured
// are to do.
package configured

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podsecurityapi "k8s.io/pod-security-admission/admission/api"

	"kogge.dev/kogge/apiserver/admission/eventratelimit"
	"kogge.dev/kogge/apiserver/admission/podsecurity"
	"kogge.dev/kogge/codec"
)

// Plugins are the configurations of a file. What the file does not name is nil.
type Plugins struct {
	EventRateLimit *eventratelimit.Configuration
	PodSecurity    *podsecurityapi.PodSecurityConfiguration
}

// file is an AdmissionConfiguration.
type file struct {
	metav1.TypeMeta `json:",inline"`
	Plugins         []plugin `json:"plugins"`
}

// plugin is the configuration of one, here or in a file of its own, whose path may be relative to this one's folder.
type plugin struct {
	Name          string          `json:"name"`
	Path          string          `json:"path,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`
}

// Read reads a file and those that it names.
func Read(path string) (Plugins, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Plugins{}, err
	}
	var f file
	if err := codec.DecodeFile(data, "AdmissionConfiguration", codec.APIServerVersions[:1], &f); err != nil {
		return Plugins{}, fmt.Errorf("%s: %w", path, err)
	}
	var out Plugins
	seen := map[string]bool{}
	for i, p := range f.Plugins {
		at := field.NewPath("plugins").Index(i)
		if seen[p.Name] {
			return Plugins{}, fmt.Errorf("%s: %w", path, field.Duplicate(at.Child("name"), p.Name))
		}
		seen[p.Name] = true
		content, err := p.content(filepath.Dir(path))
		if err == nil {
			err = out.take(p.Name, content, at)
		}
		if err != nil {
			return Plugins{}, fmt.Errorf("%s: %s: %w", path, at, err)
		}
	}
	return out, nil
}

func (p *plugin) content(folder string) ([]byte, error) {
	switch {
	case p.Path != "" && p.Configuration != nil:
		return nil, errors.New("only one of path and configuration may be there")
	case p.Configuration != nil:
		return p.Configuration, nil
	case p.Path == "":
		return nil, errors.New("either path or configuration must be there")
	case filepath.IsAbs(p.Path):
		return os.ReadFile(p.Path)
	default:
		return os.ReadFile(filepath.Join(folder, p.Path))
	}
}

// take reads what is said of one plugin.
func (p *Plugins) take(name string, content []byte, at *field.Path) (err error) {
	switch name {
	case eventratelimit.Name:
		p.EventRateLimit, err = eventratelimit.Read(content)
	case podsecurity.Name:
		p.PodSecurity, err = podsecurity.Read(content)
	default:
		return field.NotSupported(at.Child("name"), name, []string{eventratelimit.Name, podsecurity.Name})
	}
	return err
}
