// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/kubelet/pod"
)

// rotateLogs keeps containers' logs within their size. Looking costs one stat per running container.
func (k *Kubelet) rotateLogs(ctx context.Context) {
	s := &k.config.Settings
	limit, err := resource.ParseQuantity(s.ContainerLogMaxSize)
	if err != nil {
		return // refused by New
	}
	ticker := time.NewTicker(s.ContainerLogMonitorInterval.Duration)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, w := range k.all() {
			for _, c := range w.view.Load().runtime.Containers {
				if c.State != pod.Running {
					continue
				}
				path := k.runtime.logPath(c.ID)
				info, err := os.Stat(path)
				if err != nil || info.Size() <= limit.Value() {
					continue
				}
				if err := k.rotate(ctx, c.ID, path, int(*s.ContainerLogMaxFiles)); err != nil {
					w.log.Warn("container log can't be rotated", "err", err)
				}
			}
		}
	}
}

// rotate renames the log, lets the runtime begin a new one, compresses what was rotated before and removes the oldest.
func (k *Kubelet) rotate(ctx context.Context, id, path string, keep int) error {
	rotated, err := filepath.Glob(path + ".*")
	if err != nil {
		return err
	}
	rotated = slices.DeleteFunc(rotated, func(p string) bool {
		if strings.HasSuffix(p, ".tmp") {
			_ = os.Remove(p) // of an interrupted compression
			return true
		}
		return false
	})
	slices.Sort(rotated) // the names are times
	// The live log and the one that is rotated now count too.
	for len(rotated) > keep-2 {
		if err := os.Remove(rotated[0]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		rotated = rotated[1:]
	}
	for _, p := range rotated {
		if !strings.HasSuffix(p, ".gz") {
			if err := compress(p); err != nil {
				return err
			}
		}
	}
	target := path + "." + time.Now().Format("20060102-150405")
	if err := os.Rename(path, target); err != nil {
		return err
	}
	if _, err := k.config.Runtime.Containers.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id}); err != nil {
		return errors.Join(fmt.Errorf("reopen log: %w", err), os.Rename(target, path))
	}
	return nil
}

func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	temporary := path + ".tmp"
	out, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary))
		}
	}()
	zip := gzip.NewWriter(out)
	_, err = io.Copy(zip, in)
	if err = errors.Join(err, zip.Close(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("kubelet: " + err.Error()) // only maps of strings come here
	}
	return data
}

func unmarshal(text string, v any) error { return json.Unmarshal([]byte(text), v) }
