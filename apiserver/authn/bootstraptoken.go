// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"crypto/subtle"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
)

// Names of the bootstrap token secrets (kube-system/bootstrap-token-<id>) and of the users that they make.
const (
	bootstrapSecretPrefix = "bootstrap-token-"
	bootstrapSecretType   = "bootstrap.kubernetes.io/token"
	bootstrapUserPrefix   = "system:bootstrap:"
	bootstrapGroup        = "system:bootstrappers"
)

var (
	bootstrapTokenPattern = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	bootstrapGroupPattern = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
	secretsResource       = schema.GroupResource{Resource: "secrets"}
)

// BootstrapToken recognises the tokens with which nodes join.
type BootstrapToken struct {
	Reader admission.Reader
}

// AuthenticateToken implements TokenAuthenticator. A token that does not fit in any way is simply not ours: which part was
// wrong is nobody's business.
func (b BootstrapToken) AuthenticateToken(ctx context.Context, token string, audiences []string) (*TokenUser, bool, error) {
	parts := bootstrapTokenPattern.FindStringSubmatch(token)
	if parts == nil {
		return nil, false, nil
	}
	id, key := parts[1], parts[2]
	secret, found, err := admission.Get[*corev1.Secret](ctx, b.Reader, secretsResource, "kube-system", bootstrapSecretPrefix+id)
	if err != nil || !found {
		return nil, false, err
	}
	data := func(name string) string { return string(secret.Data[name]) }
	switch {
	case secret.DeletionTimestamp != nil,
		secret.Type != bootstrapSecretType,
		subtle.ConstantTimeCompare([]byte(data("token-secret")), []byte(key)) != 1,
		data("token-id") != id,
		bootstrapExpired(data("expiration"), time.Now()),
		data("usage-bootstrap-authentication") != "true":
		return nil, false, nil
	}
	groups, ok := bootstrapGroups(data("auth-extra-groups"))
	if !ok {
		return nil, false, nil
	}
	return &TokenUser{User: request.User{Name: bootstrapUserPrefix + id, Groups: groups}, Audiences: audiences}, true, nil
}

// bootstrapExpired treats an unreadable time as passed.
func bootstrapExpired(text string, now time.Time) bool {
	if text == "" {
		return false
	}
	at, err := time.Parse(time.RFC3339, text)
	return err != nil || !now.Before(at)
}

func bootstrapGroups(list string) ([]string, bool) {
	groups := []string{bootstrapGroup}
	if list == "" {
		return groups, true
	}
	for g := range strings.SplitSeq(list, ",") {
		if !bootstrapGroupPattern.MatchString(g) {
			return nil, false
		}
		groups = append(groups, g)
	}
	slices.Sort(groups)
	return slices.Compact(groups), true
}
