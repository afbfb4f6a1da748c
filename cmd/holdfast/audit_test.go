package main

import (
	"bytes"
	"strings"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// State whose stream is gone is evidence: nobody is told to make the stream anew.
func TestAuditWithoutTheStream(t *testing.T) {
	server, client := startNATS(t)
	js, err := natsjs.New(client.Conn())
	if err != nil {
		t.Fatal(err)
	}
	policy := state.DefaultPolicy()
	if _, err := client.Apply(t.Context(), jetstream.Declaration{Policy: policy.Map()}); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "HOLDS"); err != nil {
		t.Fatal(err)
	}
	audited := func(want string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"audit", "--nats", server.URL()}, &out, &errs); code != exitUntold || out.Len() > 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("%d %s%s; want %q", code, out.String(), errs.String(), want)
		}
	}
	audited("start an aggregator, which makes")
	if _, err := js.Publish(t.Context(), "$KV.HOLDS_STATE."+jetstream.CheckpointKey(9), []byte("folded")); err != nil {
		t.Fatal(err)
	}
	audited("the state in the bucket HOLDS_STATE is there, and the stream HOLDS that it was folded from is gone: it was deleted, or lost; keep a copy")
}
