// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package satoken

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kogge.dev/kogge/apiserver/request"
)

// claims is the payload of a token, public and private parts together.
type claims struct {
	jwt.Claims
	// Audiences stand for those of Claims, which are not used.
	Audiences  audiences        `json:"aud,omitempty"`
	Kubernetes kubernetesClaims `json:"kubernetes.io"`
}

// audiences are written as a list, as upstream does, also when there is one: not all who verify tokens elsewhere take a text. Both are read.
type audiences []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audiences) UnmarshalJSON(data []byte) error { return (*jwt.Audience)(a).UnmarshalJSON(data) }

type kubernetesClaims struct {
	Namespace      string           `json:"namespace,omitempty"`
	Node           *objectClaim     `json:"node,omitempty"`
	Pod            *objectClaim     `json:"pod,omitempty"`
	Secret         *objectClaim     `json:"secret,omitempty"`
	ServiceAccount objectClaim      `json:"serviceaccount"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type objectClaim struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// Issuer signs tokens.
type Issuer struct {
	name   string
	signer jose.Signer
}

// NewIssuer makes an issuer of that name (a URL, the "iss" claim) that signs with key: RSA or ECDSA.
func NewIssuer(name string, key crypto.Signer) (*Issuer, error) {
	algorithm, err := algorithmOf(key.Public())
	if err != nil {
		return nil, fmt.Errorf("service account signing key: %w", err)
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, fmt.Errorf("service account signing key: %w", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: algorithm,
		Key:       jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(algorithm), Use: "sig"},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("service account signing key: %w", err)
	}
	return &Issuer{name: name, signer: signer}, nil
}

// Subject says what a token is to prove.
type Subject struct {
	Namespace, Name, UID string
	Audiences            []string
	// Pod, Node and Secret bind the token; a pod's token carries its node as well.
	Pod, Node, Secret *Bound
	// Valid is the life time; WarnAfter, when positive, is after what time its use is noted as stale.
	Valid, WarnAfter time.Duration
}

// Bound names an object.
type Bound struct{ Name, UID string }

func (b *Bound) claim() *objectClaim {
	if b == nil {
		return nil
	}
	return &objectClaim{Name: b.Name, UID: b.UID}
}

// Issue signs a token that is valid from now on and returns it with its identifier (jti).
func (i *Issuer) Issue(s Subject, now time.Time) (token, id string, err error) {
	id, err = newUUID()
	if err != nil {
		return "", "", err
	}
	c := claims{
		Claims: jwt.Claims{
			Issuer:    i.name,
			Subject:   request.ServiceAccountPrefix + s.Namespace + ":" + s.Name,
			Expiry:    jwt.NewNumericDate(now.Add(s.Valid)),
			NotBefore: jwt.NewNumericDate(now),
			IssuedAt:  jwt.NewNumericDate(now),
			ID:        id,
		},
		Audiences: s.Audiences,
		Kubernetes: kubernetesClaims{
			Namespace:      s.Namespace,
			ServiceAccount: objectClaim{Name: s.Name, UID: s.UID},
			Pod:            s.Pod.claim(), Node: s.Node.claim(), Secret: s.Secret.claim(),
		},
	}
	if s.WarnAfter > 0 {
		c.Kubernetes.WarnAfter = jwt.NewNumericDate(now.Add(s.WarnAfter))
	}
	token, err = jwt.Signed(i.signer).Claims(c).Serialize()
	if err != nil {
		return "", "", fmt.Errorf("sign token for %s: %w", c.Subject, err)
	}
	return token, id, nil
}

func newUUID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("random identifier: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}
