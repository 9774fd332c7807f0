// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package eventratelimit refuses events that come faster than a configuration allows: of the whole server, of a namespace, of a user, or of
// one source about one object. Off unless asked for.
package eventratelimit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/lru"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/codec"
)

// Name of the plugin.
const Name = "EventRateLimit"

// Configuration is the plugin's (eventratelimit.admission.k8s.io/v1alpha1).
type Configuration struct {
	metav1.TypeMeta `json:",inline"`
	// Limits that an event must pass all of.
	Limits []Limit `json:"limits"`
}

// Limit is a token bucket, or one for each key.
type Limit struct {
	Type Type `json:"type"`
	// QPS is how many events a second come in for long, Burst how many at once.
	QPS   int32 `json:"qps"`
	Burst int32 `json:"burst"`
	// CacheSize is for how many keys buckets are kept; default 4,096. The least used bucket goes first.
	CacheSize int32 `json:"cacheSize,omitempty"`
}

// Type is what shares a bucket.
type Type string

// The types.
const (
	Server          Type = "Server"
	Namespace       Type = "Namespace"
	User            Type = "User"
	SourceAndObject Type = "SourceAndObject"
)

var allTypes = []Type{Namespace, Server, SourceAndObject, User}

const defaultCacheSize = 4096

// Read decodes a configuration strictly and judges it.
func Read(data []byte) (*Configuration, error) {
	c := &Configuration{}
	versions := []schema.GroupVersion{{Group: "eventratelimit.admission.k8s.io", Version: "v1alpha1"}}
	if err := codec.DecodeFile(data, "Configuration", versions, c); err != nil {
		return nil, err
	}
	if errs := c.validate(); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return c, nil
}

func (c *Configuration) validate() field.ErrorList {
	var errs field.ErrorList
	limits := field.NewPath("limits")
	if len(c.Limits) == 0 {
		errs = append(errs, field.Invalid(limits, c.Limits, "must not be empty"))
	}
	for i, l := range c.Limits {
		path := limits.Index(i)
		if !slices.Contains(allTypes, l.Type) {
			errs = append(errs, field.NotSupported(path.Child("type"), l.Type, allTypes))
		}
		if l.Burst <= 0 {
			errs = append(errs, field.Invalid(path.Child("burst"), l.Burst, "must be positive"))
		}
		if l.QPS <= 0 {
			errs = append(errs, field.Invalid(path.Child("qps"), l.QPS, "must be positive"))
		}
		if l.Type != Server && l.CacheSize < 0 {
			errs = append(errs, field.Invalid(path.Child("cacheSize"), l.CacheSize, "must not be negative"))
		}
	}
	return errs
}

// Plugin is the admission plugin.
type Plugin struct{ limits []*enforced }

// enforced is a limit with its buckets, by key.
type enforced struct {
	Limit

	mu      sync.Mutex
	buckets *lru.Cache
}

// New makes the plugin of a configuration that Read returned.
func New(c *Configuration) *Plugin {
	p := &Plugin{}
	for _, l := range c.Limits {
		size := int(l.CacheSize)
		if size == 0 {
			size = defaultCacheSize
		}
		if l.Type == Server {
			size = 1
		}
		p.limits = append(p.limits, &enforced{Limit: l, buckets: lru.New(size)})
	}
	return p
}

// Validate implements admission.Validator. Each limit is charged, also by an event that another one refuses.
func (p *Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	if a.Kind.Kind != "Event" || a.Kind.Group != corev1.GroupName && a.Kind.Group != eventsv1.GroupName || a.DryRun ||
		a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	var refused []string
	for _, l := range p.limits {
		if key := l.key(a); !l.bucket(key).Allow() {
			refused = append(refused, fmt.Sprintf("limit reached on type %s for key %s", l.Type, key))
		}
	}
	switch len(refused) {
	case 0:
		return nil
	case 1:
		return apierrors.NewTooManyRequestsError(refused[0])
	default:
		return apierrors.NewTooManyRequestsError("[" + strings.Join(refused, ", ") + "]")
	}
}

func (l *enforced) bucket(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.buckets.Get(key); ok {
		return known.(*rate.Limiter)
	}
	fresh := rate.NewLimiter(rate.Limit(l.QPS), int(l.Burst))
	l.buckets.Add(key, fresh)
	return fresh
}

func (l *enforced) key(a *admission.Attributes) string {
	switch l.Type {
	case Namespace:
		return a.Namespace
	case User:
		return a.User.Name
	case SourceAndObject:
		event, ok := admission.Object[*corev1.Event](a)
		if !ok {
			return ""
		}
		about := event.InvolvedObject
		return strings.Join([]string{
			event.Source.Component, event.Source.Host, about.Kind, about.Namespace, about.Name, string(about.UID), about.APIVersion,
		}, "")
	case Server:
	}
	return ""
}
