package deploy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
)

// manifests decodes the manifests as the types of Kubernetes. Unknown fields
// and values of a wrong type are errors.
func manifests(t *testing.T) (d *appsv1.Deployment, b *policyv1.PodDisruptionBudget, s *corev1.Service, i *networkingv1.Ingress) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for doc := range strings.SplitSeq(read(t, "kubernetes/chathub.yaml"), "\n---\n") {
		object, kind, err := decoder.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch o := object.(type) {
		case *appsv1.Deployment:
			d = o
		case *policyv1.PodDisruptionBudget:
			b = o
		case *corev1.Service:
			s = o
		case *networkingv1.Ingress:
			i = o
		default:
			t.Errorf("unexpected %v", kind)
		}
	}
	if d == nil || b == nil || s == nil || i == nil {
		t.Fatal("a manifest is missing")
	}
	return d, b, s, i
}

// TestKubernetes checks that the manifests are of valid types and fit together.
func TestKubernetes(t *testing.T) {
	deployment, budget, service, ingress := manifests(t)
	pod := deployment.Spec.Template
	for what, selector := range map[string]map[string]string{
		"the deployment": deployment.Spec.Selector.MatchLabels,
		"the budget":     budget.Spec.Selector.MatchLabels,
		"the service":    service.Spec.Selector,
	} {
		if !maps.Equal(selector, pod.Labels) {
			t.Errorf("%s selects %v, and pods have %v", what, selector, pod.Labels)
		}
	}
	if n := *deployment.Spec.Replicas; budget.Spec.MaxUnavailable.IntValue() >= int(n) {
		t.Errorf("all of %d pods may be away", n)
	}

	c := pod.Spec.Containers[0]
	hasPort := func(name string) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
	}
	web := read(t, "../examples/chat/web.go")
	for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if get := probe.HTTPGet; get.Path != path || !hasPort(get.Port.StrVal) || !strings.Contains(web, `"GET `+path+`"`) {
			t.Errorf("a probe of %s asks %s at %s", path, get.Path, get.Port.String())
		}
	}
	if n := c.ReadinessProbe.TimeoutSeconds; n <= 2 {
		t.Errorf("the readiness probe waits %d s, and an answer may take 2 s", n)
	}
	grace, pause := *pod.Spec.TerminationGracePeriodSeconds, c.Lifecycle.PreStop.Sleep.Seconds
	if grace <= pause+shutdownSeconds || grace <= pause+drainSeconds {
		t.Errorf("a pod has %d s to end: preStop takes %d, and a shutdown %d", grace, pause, shutdownSeconds)
	}
	if !*pod.Spec.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("a pod may be root, or write to its image")
	}

	port := service.Spec.Ports[0]
	if !hasPort(port.TargetPort.StrVal) {
		t.Errorf("the service leads to the port %s", port.TargetPort.String())
	}
	for _, path := range ingress.Spec.Rules[0].HTTP.Paths {
		if b := path.Backend.Service; b.Name != service.Name || b.Port.Name != port.Name {
			t.Errorf("%s leads to %s at %s", path.Path, b.Name, b.Port.Name)
		}
		if *path.PathType != networkingv1.PathTypeExact {
			t.Errorf("%s leads to more than one path", path.Path)
		}
	}
}
