// Module definitions pins the modules whose manifests of custom resource definitions the story definitions reads. No Go code of theirs is used: "go mod tidy"
// would take them out.
module kogge.dev/kogge/test/thirdparty/definitions

go 1.26.8

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
	istio.io/api v1.32.0
	sigs.k8s.io/cluster-api v1.14.2
	sigs.k8s.io/gateway-api v1.6.3
)
