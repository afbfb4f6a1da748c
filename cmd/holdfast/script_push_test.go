package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/rogpeppe/go-internal/testscript"
)

// scriptPushgateway starts what takes figures as a Pushgateway does: new ones replace those of the same names.
func scriptPushgateway(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: pushgateway")
	}
	folder := ts.MkAbs("pushed")
	ts.Check(os.Mkdir(folder, 0o700))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, inGroup := strings.CutPrefix(r.URL.Path, "/metrics/job/")
		job, instance, found := strings.Cut(rest, "/instance/")
		if !inGroup || !found || r.Method != http.MethodPost {
			http.Error(w, "not a push", http.StatusNotFound)
			return
		}
		err := os.MkdirAll(filepath.Join(folder, job), 0o700)
		decoder := expfmt.NewDecoder(r.Body, expfmt.ResponseFormat(r.Header))
		for family := new(dto.MetricFamily); err == nil && decoder.Decode(family) == nil; family = new(dto.MetricFamily) {
			name := strings.TrimPrefix(family.GetName(), job+"_")
			text := fmt.Sprintf("%s %v of %s\n", family.GetType(), family.GetMetric()[0].GetGauge().GetValue(), instance)
			err = os.WriteFile(filepath.Join(folder, job, name), []byte(text), 0o600)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	ts.Defer(server.Close)
	ts.Setenv("PUSHGATEWAY", server.URL)
}
