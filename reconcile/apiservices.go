// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/client"
)

// APIServices returns the informer of APIServices. Of those that name no Service it has no more than name, UID and version: each group of definitions has one, and
// to loops they are all the same.
func APIServices(informers *client.Informers) *client.Informer[*apiregistrationv1.APIService] {
	return client.TrimmedInformer(informers, client.Of[*apiregistrationv1.APIService](informers.Client()), onlyRemote)
}

func onlyRemote(svc *apiregistrationv1.APIService) *apiregistrationv1.APIService {
	if svc.Spec.Service != nil {
		return svc
	}
	text := svc.Name + string(svc.UID) + svc.ResourceVersion
	uid, version := len(svc.Name), len(svc.Name)+len(svc.UID)
	return &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{
		Name: text[:uid], UID: types.UID(text[uid:version]), ResourceVersion: text[version:],
	}}
}
