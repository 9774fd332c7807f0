// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"kogge.dev/kogge/apiserver/request"
)

// TokenFile recognises the tokens of a CSV file: token,user,uid[,"group1,group2"]. The file is read once.
type TokenFile struct {
	users []fileUser
}

type fileUser struct {
	hash [32]byte
	user request.User
}

// ParseTokenFile reads the file's bytes.
func ParseTokenFile(data []byte) (*TokenFile, error) {
	out := &TokenFile{}
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1
	for line := 1; ; line++ {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read token file: %w", err)
		}
		if len(record) < 3 {
			return nil, fmt.Errorf("read token file: record %d needs at least 3 columns (token, user name, user uid), found %d", line, len(record))
		}
		if record[0] == "" {
			return nil, fmt.Errorf("read token file: record %d has an empty token", line)
		}
		u := fileUser{hash: sha256.Sum256([]byte(record[0])), user: request.User{Name: record[1], UID: record[2]}}
		if len(record) > 3 && record[3] != "" {
			u.user.Groups = strings.Split(record[3], ",")
		}
		out.users = append(out.users, u)
	}
}

// AuthenticateToken implements TokenAuthenticator. Hashes are compared, so that timing tells nothing about tokens.
func (f *TokenFile) AuthenticateToken(_ context.Context, token string, audiences []string) (*TokenUser, bool, error) {
	hash := sha256.Sum256([]byte(token))
	for i := range f.users {
		if subtle.ConstantTimeCompare(hash[:], f.users[i].hash[:]) == 1 {
			return &TokenUser{User: f.users[i].user, Audiences: audiences}, true, nil
		}
	}
	return nil, false, nil
}
