// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
)

// dependents is how many objects one owner has.
const dependents = 5000

// benchCascade measures the deletion of an owner with 5,000 dependents in the background: from the request to the last dependent's
// DELETED, as a watcher sees it. The gate: each dependent goes once, an object with another living owner stays, and the owner is gone.
func benchCascade(ctx context.Context, r *round, s *subject, user *load.Client) error {
	owners := [2]string{}
	for i := range owners {
		name := fmt.Sprintf("owner-%d", i)
		if err := s.create(ctx, configMapsPath, object{"metadata": object{"name": name}}); err != nil {
			return err
		}
		var made struct {
			Metadata struct {
				UID string `json:"uid"`
			} `json:"metadata"`
		}
		if err := s.get(ctx, configMapsPath+"/"+name, &made); err != nil {
			return err
		}
		owners[i] = made.Metadata.UID
	}
	if _, err := user.Run(ctx, 16, dependents, func(i int) load.Request {
		return load.Request{Method: "POST", Path: configMapsPath, ContentType: load.JSON, Accept: load.Protobuf, Body: encode(dependent(fmt.Sprintf("dependent-%d", i), owners[:1]))}
	}, nil); err != nil {
		return err
	}
	if err := s.create(ctx, configMapsPath, dependent("kept", owners[:])); err != nil {
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil { // the collector has seen them all
		return err
	}
	const c = "owner of 5,000 config maps"
	if err := r.profiled(ctx, s, c, func() error { return r.cascade(ctx, user, c) }); err != nil {
		return err
	}
	var object object
	if err := s.get(ctx, configMapsPath+"/kept", &object); err != nil {
		return fmt.Errorf("the object with two owners: %w", err)
	}
	var status *load.StatusError
	if err := s.get(ctx, configMapsPath+"/owner-0", &object); !errors.As(err, &status) || status.Code != 404 {
		return fmt.Errorf("the owner is not gone: %w", err)
	}
	return nil
}

// dependent is a small object with owners, which are numbered.
func dependent(name string, owners []string) object {
	var references []object
	for i, uid := range owners {
		references = append(references, object{"apiVersion": "v1", "kind": "ConfigMap", "name": fmt.Sprintf("owner-%d", i), "uid": uid})
	}
	return object{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": object{"name": name, "labels": object{"of": "owner"}, "ownerReferences": references}, "data": object{"key": "value"},
	}
}

func (r *round) cascade(ctx context.Context, user *load.Client, c string) error {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	text, err := user.Do(ctx, 0, load.Request{Method: "GET", Path: configMapsPath + "?limit=1"})
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return err
	}
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	remove := load.Request{Method: "DELETE", Path: configMapsPath + "/owner-0?propagationPolicy=Background"}
	if _, err := user.Do(ctx, 0, remove); err != nil {
		return err
	}
	gone := map[string]bool{}
	path := configMapsPath + "?watch=1&labelSelector=of%3Downer&resourceVersion=" + list.Metadata.ResourceVersion
	_, err = watch(ctx, user, 1, path, func(line []byte) (bool, error) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, err
		}
		if e.Type != "DELETED" {
			return false, nil
		}
		name := e.Object.Metadata.Name
		if gone[name] || name == "kept" {
			return false, fmt.Errorf("%s was deleted, which is wrong", name)
		}
		gone[name] = true
		return len(gone) == dependents, nil
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	r.less(c, "request to the last one gone, ms", milliseconds(took))
	r.less(c, "CPU µs per object", microseconds(after-used)/dependents)
	return nil
}
