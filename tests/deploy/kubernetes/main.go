// Reads YAML from standard input, and says what of it the types of its readers do not know.
//
//	go run . kubernetes < manifests.yaml    Kubernetes, Prometheus' operator, KEDA
//	go run . envoy < envoy.yaml             Envoy's bootstrap
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"google.golang.org/protobuf/encoding/protojson"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	kube "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// ScaledObject as far as the chart uses it. Source: KEDA, "ScaledObject specification", v1alpha1.
type ScaledObject struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount int `json:"minReplicaCount"`
		MaxReplicaCount int `json:"maxReplicaCount"`
		Triggers        []struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
		Advanced struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior autoscaling.HorizontalPodAutoscalerBehavior `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
	} `json:"spec"`
}

var kinds = map[string]func() any{
	"v1 ConfigMap":                            func() any { return &core.ConfigMap{} },
	"v1 Service":                              func() any { return &core.Service{} },
	"apps/v1 Deployment":                      func() any { return &apps.Deployment{} },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() any { return &autoscaling.HorizontalPodAutoscaler{} },
	"networking.k8s.io/v1 Ingress":            func() any { return &networking.Ingress{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() any { return &networking.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":           func() any { return &policy.PodDisruptionBudget{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
	"keda.sh/v1alpha1 ScaledObject":           func() any { return &ScaledObject{} },
}

func kubernetes(input io.Reader) error {
	var found []error
	reader := kube.NewYAMLReader(bufio.NewReader(input))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return errors.Join(found...)
		}
		if err != nil {
			return err
		}
		found = append(found, manifest(document)...)
	}
}

func manifest(document []byte) []error {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return []error{err}
	}
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	var what struct {
		meta.TypeMeta   `json:",inline"`
		meta.ObjectMeta `json:"metadata"`
	}
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &what); err != nil {
		return []error{err}
	}
	name := fmt.Sprintf("%s %s", what.APIVersion, what.Kind)
	made, known := kinds[name]
	if !known {
		return []error{fmt.Errorf("%s: no such kind is known here", name)}
	}
	unknown, err := json.UnmarshalStrict(text, made())
	if err != nil {
		unknown = append(unknown, err)
	}
	for i := range unknown {
		unknown[i] = fmt.Errorf("%s %s: %w", name, what.Name, unknown[i])
	}
	fmt.Println(name, what.Name)
	return unknown
}

func envoy(input io.Reader) error {
	text, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	if text, err = yaml.YAMLToJSONStrict(text); err != nil {
		return err
	}
	found := &bootstrap.Bootstrap{}
	if err := protojson.Unmarshal(text, found); err != nil {
		return err
	}
	return found.ValidateAll()
}

func main() {
	readers := map[string]func(io.Reader) error{"kubernetes": kubernetes, "envoy": envoy}
	if len(os.Args) != 2 || readers[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "which: kubernetes or envoy?")
		os.Exit(2)
	}
	if err := readers[os.Args[1]](os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
