// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import "context"

// Kubelet runs the pods of one node.
type Kubelet struct {
	config Config
}

func newKubelet(c Config) *Kubelet { return &Kubelet{config: c} }

func (k *Kubelet) run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
