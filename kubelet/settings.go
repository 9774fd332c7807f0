// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/kubelet/userns"
)

func unset[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func zero[T comparable](field *T, value T) {
	var none T
	if *field == none {
		*field = value
	}
}

// defaultSettings fills upstream's defaults into what is unset and honoured here.
func defaultSettings(s *kubeletconfig.KubeletConfiguration) {
	unset(&s.EnableServer, true)
	zero(&s.StaticPodPath, "/etc/kubernetes/manifests")
	zero(&s.Address, "0.0.0.0")
	zero(&s.Port, int32(10250))
	zero(&s.HealthzBindAddress, "127.0.0.1")
	unset(&s.HealthzPort, int32(10248))
	zero(&s.Authentication.Webhook.CacheTTL, metav1.Duration{Duration: 2 * time.Minute})
	unset(&s.Authentication.Webhook.Enabled, true)
	unset(&s.Authentication.Anonymous.Enabled, false)
	zero(&s.Authorization.Mode, kubeletconfig.KubeletAuthorizationModeWebhook)
	zero(&s.Authorization.Webhook.CacheAuthorizedTTL, metav1.Duration{Duration: 5 * time.Minute})
	zero(&s.Authorization.Webhook.CacheUnauthorizedTTL, metav1.Duration{Duration: 30 * time.Second})
	unset(&s.EnableDebuggingHandlers, true)
	unset(&s.EnableProfilingHandler, true)
	unset(&s.EnableSystemLogHandler, true)
	zero(&s.NodeStatusUpdateFrequency, metav1.Duration{Duration: 10 * time.Second})
	zero(&s.NodeStatusReportFrequency, metav1.Duration{Duration: 5 * time.Minute})
	zero(&s.NodeLeaseDurationSeconds, int32(40))
	zero(&s.ImageMinimumGCAge, metav1.Duration{Duration: 2 * time.Minute})
	unset(&s.ImageGCHighThresholdPercent, int32(85))
	unset(&s.ImageGCLowThresholdPercent, int32(80))
	zero(&s.MaxPods, int32(110))
	unset(&s.PodPidsLimit, int64(-1))
	unset(&s.ResolverConfig, "/etc/resolv.conf")
	unset(&s.CPUCFSQuota, true)
	unset(&s.CPUCFSQuotaPeriod, metav1.Duration{Duration: 100 * time.Millisecond})
	unset(&s.NodeStatusMaxImages, int32(50))
	unset(&s.SerializeImagePulls, true)
	unset(&s.FailSwapOn, false)
	unset(&s.RegisterNode, true)
	unset(&s.SeccompDefault, false)
	unset(&s.EnableControllerAttachDetach, true)
	unset(&s.CgroupsPerQOS, true)
	unset(&s.LocalStorageCapacityIsolation, true)
	zero(&s.ContainerLogMaxSize, "10Mi")
	unset(&s.ContainerLogMaxFiles, int32(5))
	unset(&s.ContainerLogMonitorInterval, metav1.Duration{Duration: 10 * time.Second})
	zero(&s.ClusterDomain, "cluster.local")
	zero(&s.EvictionPressureTransitionPeriod, metav1.Duration{Duration: 5 * time.Minute})
	unset(&s.CrashLoopBackOff.MaxContainerRestartPeriod, metav1.Duration{Duration: 5 * time.Minute})
	zero(&s.StreamingConnectionIdleTimeout, metav1.Duration{Duration: 4 * time.Hour})
	defaultEviction(s)
}

func defaultEviction(s *kubeletconfig.KubeletConfiguration) {
	defaults := map[string]string{
		"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
	}
	if s.EvictionHard == nil {
		s.EvictionHard = defaults
		return
	}
	if s.MergeDefaultEvictionSettings == nil || !*s.MergeDefaultEvictionSettings {
		return
	}
	merged := map[string]string{}
	maps.Copy(merged, defaults)
	maps.Copy(merged, s.EvictionHard)
	s.EvictionHard = merged
}

// validateSettings refuses values that are wrong, and settings that promise what this kubelet does not do.
func validateSettings(s *kubeletconfig.KubeletConfiguration) error {
	var errs []error
	refuse := func(name, value, allowed string) {
		if value != "" && value != allowed {
			errs = append(errs, fmt.Errorf("%s %q is not supported, only %q is", name, value, allowed))
		}
	}
	refuse("cpuManagerPolicy", s.CPUManagerPolicy, "none")
	refuse("memoryManagerPolicy", s.MemoryManagerPolicy, "None")
	refuse("topologyManagerPolicy", s.TopologyManagerPolicy, "none")
	refuse("cgroupDriver", s.CgroupDriver, "cgroupfs")
	if s.StaticPodURL != "" {
		errs = append(errs, errors.New("staticPodURL is not supported; use staticPodPath"))
	}
	if s.ReadOnlyPort != 0 {
		errs = append(errs, errors.New("readOnlyPort is not supported: every request is authorized"))
	}
	if s.Authorization.Mode != kubeletconfig.KubeletAuthorizationModeWebhook {
		errs = append(errs, fmt.Errorf("authorization.mode %q is not supported: every request is authorized by the API server", s.Authorization.Mode))
	}
	if *s.Authentication.Anonymous.Enabled {
		errs = append(errs, errors.New("authentication.anonymous.enabled is not supported"))
	}
	if q, err := resource.ParseQuantity(s.ContainerLogMaxSize); err != nil || q.Sign() <= 0 {
		errs = append(errs, fmt.Errorf("containerLogMaxSize %q is not a positive quantity", s.ContainerLogMaxSize))
	}
	if *s.ContainerLogMaxFiles <= 1 {
		errs = append(errs, fmt.Errorf("containerLogMaxFiles %d must be greater than 1", *s.ContainerLogMaxFiles))
	}
	if low, high := *s.ImageGCLowThresholdPercent, *s.ImageGCHighThresholdPercent; low < 0 || high > 100 || low >= high {
		errs = append(errs, fmt.Errorf("image thresholds: low %d%% must be below high %d%%", low, high))
	}
	if u := s.UserNamespaces; u != nil && u.IDsPerPod != nil && (*u.IDsPerPod <= 0 || *u.IDsPerPod%userns.DefaultLength != 0 || *u.IDsPerPod >= 1<<32) {
		errs = append(errs, fmt.Errorf("userNamespaces.idsPerPod %d is not a multiple of %d below 2^32", *u.IDsPerPod, userns.DefaultLength))
	}
	switch policy := s.ImagePullCredentialsVerificationPolicy; policy {
	case "", kubeletconfig.NeverVerify, kubeletconfig.NeverVerifyPreloadedImages, kubeletconfig.NeverVerifyAllowlistedImages, kubeletconfig.AlwaysVerify:
		if len(s.PreloadedImagesVerificationAllowlist) > 0 && policy != kubeletconfig.NeverVerifyAllowlistedImages {
			errs = append(errs, fmt.Errorf("preloadedImagesVerificationAllowlist is only for imagePullCredentialsVerificationPolicy %q", kubeletconfig.NeverVerifyAllowlistedImages))
		}
	default:
		errs = append(errs, fmt.Errorf("imagePullCredentialsVerificationPolicy %q is not known", policy))
	}
	for _, reserved := range []map[string]string{s.SystemReserved, s.KubeReserved} {
		for name, value := range reserved {
			if _, err := resource.ParseQuantity(value); err != nil {
				errs = append(errs, fmt.Errorf("reserved %s %q: %w", name, value, err))
			}
		}
	}
	return errors.Join(errs...)
}
