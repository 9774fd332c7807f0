// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/node"
	"kogge.dev/kogge/cri/containerd"
	"kogge.dev/kogge/internal/version"
)

// statusLimit bounds how long a status may take: it must answer when the cluster does not.
const statusLimit = 10 * time.Second

// Status describes a cluster: what runs, how it is, what it takes.
func Status(ctx context.Context, settings Settings, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	all, err := runningAll(settings.DataDir)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer func() { err = errors.Join(err, w.Flush()) }()
	fmt.Fprintf(w, "kogge\t%s, Kubernetes %s\n", version.Kogge, version.Kubernetes)
	fmt.Fprintf(w, "data\t%s\n", settings.DataDir)
	if len(all) == 0 {
		fmt.Fprintf(w, "process\tnot running; start it with 'kogge up'\n")
		return nil
	}
	serves := false
	for _, r := range all {
		fmt.Fprintf(w, "process\t%d (%s), %s resident\n", r.PID, r.Role, residentText(r.PID))
		serves = serves || r.Role == RoleAll || r.Role == RoleServer
	}
	runtimeStatus(w, settings)
	if !serves {
		return nil
	}
	return apiStatus(ctx, w, settings)
}

func runtimeStatus(w io.Writer, settings Settings) {
	config := node.Containerd(node.PathsOf(settings.DataDir, DefaultDataDir), nodeOf(settings), nil)
	state, err := containerd.Inspect(config)
	switch {
	case err != nil:
		fmt.Fprintf(w, "container runtime\t%v\n", err)
	case state.PID == 0:
		fmt.Fprintf(w, "container runtime\tnot running\n")
	default:
		shims, err := containerd.Shims(config)
		if err != nil {
			fmt.Fprintf(w, "container runtime\t%v\n", err)
			return
		}
		kib := 0
		for _, pid := range shims {
			if k, err := resident(pid); err == nil {
				kib += k
			}
		}
		fmt.Fprintf(w, "container runtime\tcontainerd %d, %s resident; %d shims, %d MiB resident\n", state.PID, residentText(state.PID), len(shims), kib/1024)
	}
}

// apiStatus asks the API server.
func apiStatus(ctx context.Context, w io.Writer, settings Settings) error {
	c, server, err := administrator(settings.DataDir)
	if err != nil {
		return err
	}
	backend, err := server.http("kogge")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "API server\t%s\n", server.config.Host)
	health, err := readyz(ctx, backend.Client(), server.config.Host)
	if err != nil {
		fmt.Fprintf(w, "health\tno answer: %v\n", err)
		return errors.New("the API server does not answer")
	}
	fmt.Fprintf(w, "health\t%s\n", health)
	nodes, err := client.Of[*corev1.Node](c).List(ctx, "", metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		state := "NotReady"
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				state = "Ready"
			}
		}
		var addresses []string
		for _, a := range n.Status.Addresses {
			addresses = append(addresses, a.Address)
		}
		fmt.Fprintf(w, "node %s\t%s, %s, %s, pods %s\n", n.Name, state, n.Status.NodeInfo.KubeletVersion, strings.Join(slices.Compact(addresses), " "), n.Spec.PodCIDR)
	}
	pods, err := client.Of[*corev1.Pod](c).List(ctx, "", metav1.ListOptions{})
	if err != nil {
		return err
	}
	phases := map[corev1.PodPhase]int{}
	for _, p := range pods.Items {
		phases[p.Status.Phase]++
	}
	fmt.Fprintf(w, "pods\t%d running, %d pending, %d succeeded, %d failed\n",
		phases[corev1.PodRunning], phases[corev1.PodPending], phases[corev1.PodSucceeded], phases[corev1.PodFailed])
	return nil
}

func readyz(ctx context.Context, c *http.Client, server string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/readyz?verbose", nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusOK {
		return "ready", nil
	}
	var bad []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "[-]") {
			bad = append(bad, strings.TrimSpace(line))
		}
	}
	return "not ready: " + strings.Join(bad, "; "), nil
}

// residentText reads a process's resident memory for people.
func residentText(pid int) string {
	kib, err := resident(pid)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%d MiB", kib/1024)
}

// resident returns a process's resident memory in KiB.
func resident(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fs.ErrNotExist
}
