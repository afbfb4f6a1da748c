package service_test

import (
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/service"
)

func TestOTLPFlags(t *testing.T) {
	type cli struct {
		service.LogFlags
		service.NATSFlags
		service.OTLPFlags
	}
	tests := map[string]struct {
		args []string
		want string // in what is said; "" = they are good
	}{
		"nothing":          {nil, ""},
		"grpc":             {[]string{"--otlp=grpc"}, ""},
		"http, with all":   {[]string{"--otlp=http", "--otlp-endpoint=https://collector", "--otlp-interval=15s"}, ""},
		"off, with more":   {[]string{"--otlp=off", "--otlp-endpoint=x"}, ""},
		"another protocol": {[]string{"--otlp=udp"}, "--otlp"},
		"no URL":           {[]string{"--otlp=grpc", "--otlp-endpoint=collector:4317"}, "http://collector:4317"},
		"no time":          {[]string{"--otlp=grpc", "--otlp-interval=-1s"}, "interval"},
		"those beside it":  {[]string{"--otlp=grpc", "--nats-user=joe"}, "--nats-password"},
	}
	for name, test := range tests {
		p := parse(new(cli), test.args...)
		if p.ok != (test.want == "") || !strings.Contains(p.stderr, test.want) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
