package service_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/service"
)

func TestLogLevels(t *testing.T) {
	tests := map[string][]string{
		"debug": {"DEBUG", "INFO", "WARN", "ERROR"},
		"info":  {"INFO", "WARN", "ERROR"},
		"warn":  {"WARN", "ERROR"},
		"error": {"ERROR"},
	}
	for level, want := range tests {
		t.Run(level, func(t *testing.T) {
			var out bytes.Buffer
			log := service.LogFlags{LogLevel: level, LogFormat: "json"}.Logger(&out)
			log.Debug("m", "a", 1)
			log.Info("m", "a", 1)
			log.Warn("m", "a", 1)
			log.Error("m", "a", 1)
			var got []string
			for line := range strings.Lines(out.String()) {
				var entry struct {
					Level, Msg string
					A          int
				}
				if err := json.Unmarshal([]byte(line), &entry); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				if entry.Msg != "m" || entry.A != 1 {
					t.Errorf("logged %q", line)
				}
				got = append(got, entry.Level)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("levels (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLogText(t *testing.T) {
	var out bytes.Buffer
	service.LogFlags{LogLevel: "info", LogFormat: "text"}.Logger(&out).Info("listening", "addr", "x")
	if got := out.String(); !strings.Contains(got, "level=INFO msg=listening addr=x") {
		t.Errorf("logged %q", got)
	}
}
