package push

import "testing"

// Where nothing is said, metrics and traces go where the specification says, not encrypted; the environment has its say.
func TestReceiver(t *testing.T) {
	for name, test := range map[string]struct {
		protocol, endpoint, signal string
		environment                map[string]string
		want                       string
	}{
		"gRPC":                       {GRPC, "", "metrics", nil, "http://localhost:4317"},
		"HTTP, metrics":              {HTTP, "", "metrics", nil, "http://localhost:4318/v1/metrics"},
		"HTTP, traces":               {HTTP, "", "traces", nil, "http://localhost:4318/v1/traces"},
		"a flag":                     {HTTP, "https://a", "traces", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"}, "https://a/v1/traces"},
		"a flag with a path":         {HTTP, "http://a/b", "traces", nil, "http://a/b"},
		"the environment":            {HTTP, "", "traces", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"}, ""},
		"the environment of traces":  {GRPC, "", "traces", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"}, ""},
		"that is no matter of these": {GRPC, "", "metrics", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"}, "http://localhost:4317"},
		"encrypted or not":           {GRPC, "", "metrics", map[string]string{"OTEL_EXPORTER_OTLP_INSECURE": "false"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.environment {
				t.Setenv(key, value)
			}
			if got := receiver(test.protocol, test.endpoint, test.signal); got != test.want {
				t.Errorf("it is %q, want %q", got, test.want)
			}
		})
	}
}
