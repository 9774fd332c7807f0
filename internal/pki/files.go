// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

func load(dir, name string) (Pair, error) {
	return Load(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
}

// Load reads a certificate and its private key from PEM files.
func Load(certPath, keyPath string) (Pair, error) {
	data, err := os.ReadFile(certPath)
	if err != nil {
		return Pair{}, err
	}
	cert, err := ParseCert(data)
	if err != nil {
		return Pair{}, fmt.Errorf("%s: %w", certPath, err)
	}
	key, err := LoadKey(keyPath)
	return Pair{Cert: cert, Key: key}, err
}

// ParseCert reads the first certificate of a PEM text.
func ParseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("holds no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// LoadKey reads a private key in any of the forms that clusters have: SEC 1 (ours), PKCS #1 (kubeadm's) and PKCS #8.
func LoadKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: holds no PEM key", path)
	}
	var key any
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a %T can't sign", path, key)
	}
	return signer, nil
}

// save writes the key first: a certificate without its key would look complete.
func save(dir, name string, pair Pair) error {
	key, err := pair.KeyPEM()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, name+".key"), key, 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, name+".crt"), pair.CertPEM(), 0o644)
}

// writeFile replaces a file as a whole or not at all.
func writeFile(path string, data []byte, mode os.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // nothing is left of it once it is renamed
	if _, err := temp.Write(data); err != nil {
		temp.Close()
		return err
	}
	if err := temp.Chmod(mode); err != nil {
		temp.Close()
		return err
	}
	if err := temp.Sync(); err != nil {
		temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
