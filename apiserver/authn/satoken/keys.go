// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package satoken issues and verifies bound service account tokens: signed JWTs that say which service account, pod, node
// or secret they belong to, and that die with it.
package satoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// keyID is upstream's: the base64url SHA-256 of the public key's PKIX form, so that both sides find each other's keys.
func keyID(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func algorithmOf(public crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
		return "", errors.New("unknown curve, must be P-256, P-384 or P-521")
	}
	return "", fmt.Errorf("unknown key type %T, must be RSA or ECDSA", public)
}

// ParsePrivateKey reads an RSA or ECDSA key from PEM (PKCS#1, SEC 1 or PKCS#8).
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
	}
	return nil, errors.New("no RSA or ECDSA private key in the PEM data")
}

// ParsePublicKeys reads all public keys of a PEM file; private keys and certificates count with their public part.
func ParsePublicKeys(data []byte) ([]crypto.PublicKey, error) {
	var out []crypto.PublicKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			out = append(out, key)
		} else if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			out = append(out, key)
		} else if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, cert.PublicKey)
		} else if signer, err := ParsePrivateKey(pem.EncodeToMemory(block)); err == nil {
			out = append(out, signer.Public())
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no public key in the PEM data")
	}
	return out, nil
}

// Documents are the two public files by which others verify our tokens.
type Documents struct {
	// Configuration is /.well-known/openid-configuration, KeySet is /openid/v1/jwks (application/jwk-set+json).
	Configuration, KeySet []byte
}

// KeySetPath is where the key set is served.
const KeySetPath = "/openid/v1/jwks"

// NewDocuments renders the documents for an issuer. jwksURI may be empty: then it lies under the issuer.
func NewDocuments(issuer, jwksURI string, keys []crypto.PublicKey) (Documents, error) {
	if jwksURI == "" {
		jwksURI = issuer + KeySetPath
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	algorithms := []string{}
	seen := map[string]bool{}
	for _, key := range keys {
		alg, err := algorithmOf(key)
		if err != nil {
			return Documents{}, err
		}
		id, err := keyID(key)
		if err != nil {
			return Documents{}, err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(alg), Use: "sig"})
		if !seen[string(alg)] {
			seen[string(alg)] = true
			algorithms = append(algorithms, string(alg))
		}
	}
	keySet, err := json.Marshal(set)
	if err != nil {
		return Documents{}, fmt.Errorf("encode key set: %w", err)
	}
	configuration, err := json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		KeySetURI     string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{issuer, jwksURI, []string{"id_token"}, []string{"public"}, algorithms})
	if err != nil {
		return Documents{}, fmt.Errorf("encode openid configuration: %w", err)
	}
	return Documents{Configuration: configuration, KeySet: keySet}, nil
}
