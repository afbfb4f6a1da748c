package producers

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// What the page says of acknowledgements, of a client that knows nothing but the protocol.
func TestAcknowledgementsOfThePage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	streams, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("hold.alice", []byte("{}"), patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("before there are streams: %v", err)
	}
	if _, err := streams.Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}

	type answer struct {
		Stream    string
		Seq       uint64
		Duplicate bool
		Error     *struct {
			Code int `json:"err_code"`
		}
	}
	known := nats.Header{"Nats-Msg-Id": {"n1-000017"}}
	large := nats.Header{"Large": {strings.Repeat("x", 64<<10)}}
	for _, step := range []struct {
		subject string
		header  nats.Header
		want    answer // the zero one: no responders
		code    int
	}{
		{"hold.alice", nil, answer{Stream: "HOLDS", Seq: 1}, 0},
		{"poh.n1", known, answer{Stream: "POH", Seq: 1}, 0},
		{"poh.n1", known, answer{Stream: "POH", Seq: 1, Duplicate: true}, 0},
		{"hold.p.15", nil, answer{Stream: "HOLDS", Seq: 2}, 0},
		{"hold." + events.EncodeID("ann@example.com"), nil, answer{Stream: "HOLDS", Seq: 3}, 0},
		{"hold.ann@example.com", nil, answer{}, 0},
		{"hold.p.16", nil, answer{}, 0},
		{"poh.n1", large, answer{Stream: "POH"}, 10097},
	} {
		m, err := nc.RequestMsg(&nats.Msg{Subject: step.subject, Header: step.header, Data: []byte("{}")}, 10*time.Second)
		if step.want == (answer{}) {
			if !errors.Is(err, nats.ErrNoResponders) {
				t.Errorf("%s: %v, want no responders", step.subject, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", step.subject, err)
			continue
		}
		var got answer
		if err := json.Unmarshal(m.Data, &got); err != nil {
			t.Errorf("%s: %v in %s", step.subject, err, m.Data)
		}
		code := 0
		if got.Error != nil {
			code, got.Error = got.Error.Code, nil
		}
		if got != step.want || code != step.code {
			t.Errorf("%s: %s, want %+v and the error %d", step.subject, m.Data, step.want, step.code)
		}
	}
}
