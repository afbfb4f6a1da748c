package export_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/pkg/events"
)

// request asks over NATS.
func (w *world) request(subject, body string) (*nats.Msg, error) {
	return w.client.Conn().RequestWithContext(testContext(w.t), subject, []byte(body))
}

// ask expects an answer.
func (w *world) ask(subject, body string) string {
	w.t.Helper()
	m, err := w.request(subject, body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", subject, body, err)
	}
	if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
		w.t.Fatalf("%s %s: %s %s", subject, body, code, m.Header.Get(micro.ErrorHeader))
	}
	return string(m.Data)
}

// awaitService waits until somebody answers.
func (w *world) awaitService() {
	w.t.Helper()
	until(w.t, "the service answers", func() bool {
		_, err := w.request("holdfast.stats", "")
		return err == nil
	})
}

func TestNATSAnswersAsHTTPDoes(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	for i, id := range hostile {
		w.put(hold(id, 0, int64(i%3)*100, uint64(i+1)))
	}
	w.putPoH(pohEvents()...)
	w.flush()
	var now clock
	now.set(t0 + 1_000_000)
	r := started(t, w, export.Options{NATSService: true, Now: now.now})
	r.awaitFolded(w)
	w.awaitService()
	same := func(subject, body, path string) {
		t.Helper()
		_, want := r.do("GET", path)
		if diff := gocmp.Diff(string(want), w.ask(subject, body)); diff != "" {
			t.Errorf("%s %s differs from GET %s (-want +got):\n%s", subject, body, path, diff)
		}
	}
	same("holdfast.top", "", "/top")
	same("holdfast.top", " {} ", "/top")
	same("holdfast.top", `{"n":3}`, "/top?n=3")
	same("holdfast.top", `{"n":"3","at":1800000000.5}`, "/top?n=3&at=1800000000.5")
	same("holdfast.top", `{"at":"2030-01-01T02:00:00+02:00"}`, "/top?at=2030-01-01T00:00:00Z")
	same("holdfast.poh", "", "/poh")
	same("holdfast.poh", `{"n":1}`, "/poh?n=1")
	for _, id := range hostile {
		path := "/holders/" + percent(id)
		body, err := json.Marshal(map[string]string{"holder_id": id})
		if err != nil {
			t.Fatal(err)
		}
		same("holdfast.holder."+events.EncodeID(id), "", path)
		same("holdfast.holder."+events.EncodeID(id), `{"at":1800000000}`, path+"?at=1800000000")
		same("holdfast.holder", string(body), path)
	}
	// The age of the state differs between two questions; the totals do not.
	var overHTTP, overNATS statsAnswer
	r.get("/stats?at=1800000000", &overHTTP)
	if err := json.Unmarshal([]byte(w.ask("holdfast.stats", `{"at":1800000000}`)), &overNATS); err != nil {
		t.Fatal(err)
	}
	overHTTP.Logs, overNATS.Logs = nil, nil
	if diff := gocmp.Diff(overHTTP, overNATS); diff != "" || overHTTP.Holders != len(hostile) {
		t.Errorf("stats (-HTTP +NATS):\n%s", diff)
	}
}

// percent is an id as one segment of a path, every byte encoded.
func percent(id string) string {
	var b strings.Builder
	for i := range len(id) {
		fmt.Fprintf(&b, "%%%02X", id[i])
	}
	return b.String()
}

func TestNATSRefuses(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 100, 1))
	w.flush()
	r := started(t, w, export.Options{NATSService: true})
	r.awaitFolded(w)
	w.awaitService()
	for _, test := range []struct{ subject, body, code, field, reason string }{
		{"holdfast.top", `{"n":0}`, "400", "n", "1 to 10000"},
		{"holdfast.top", `{"n":1.5}`, "400", "n", "1 to 10000"},
		{"holdfast.top", `{"n":true}`, "400", "n", "neither a number nor a string"},
		{"holdfast.top", `{"n":null}`, "400", "n", "neither a number nor a string"},
		{"holdfast.top", `{"n":1,"n":2}`, "400", "n", "more than once"},
		{"holdfast.top", `{"n":1,"at":[{"n":2}]}`, "400", "at", "neither a number nor a string"},
		{"holdfast.top", `{"m":1}`, "400", "m", "no such parameter"},
		{"holdfast.top", `{"at":"yesterday"}`, "400", "at", "RFC 3339"},
		{"holdfast.top", `{"at":1700000099}`, "400", "at", "no longer in the state"},
		{"holdfast.top", `[1]`, "400", "body", "it is JSON, but no object; a request is"},
		{"holdfast.top", `{"n":1}{}`, "400", "body", "follows"},
		{"holdfast.top", `{"n":`, "400", "body", "unexpected EOF"},
		{"holdfast.top", `{"n":1`, "400", "body", "unexpected EOF"},
		{"holdfast.top", `{`, "400", "body", "unexpected EOF"},
		{"holdfast.top", `{"n":1,}`, "400", "body", "invalid character '}'"},
		{"holdfast.top", `{1:1}`, "400", "body", "invalid character '1'"},
		{"holdfast.top", `n=1`, "400", "body", "invalid character"},
		{"holdfast.top", strings.Repeat(" ", 5000), "400", "body", "5000 bytes"},
		{"holdfast.stats", `{"n":1}`, "400", "n", "no such parameter"},
		{"holdfast.poh", `{"at":1}`, "400", "at", "no such parameter"},
		{"holdfast.holder.nobody", "", "404", "holder_id", "=2E"},
		{"holdfast.holder.a.b", "", "400", "holder_id", "=2E"},
		{"holdfast.holder.a=2e", "", "400", "holder_id", "upper-case"},
		{"holdfast.holder.a", `{"holder_id":"a"}`, "400", "holder_id", "no such parameter"},
		{"holdfast.holder.cafe=CC=81", "", "400", "holder_id", `write it as "caf\u00e9"`},
		{"holdfast.holder.=FF", "", "400", "holder_id", "not valid UTF-8"},
		{"holdfast.holder", `{"holder_id":"` + strings.Repeat("x", 129) + `"}`, "400", "holder_id", "129 bytes; at most 128"},
		{"holdfast.holder", "{\"holder_id\":\"\xff\"}", "400", "body", "not valid UTF-8"},
		{"holdfast.holder", `{"holder_id":"a","holder_id":"b"}`, "400", "holder_id", "more than once"},
		{"holdfast.holder", "", "400", "holder_id", "missing"},
		{"holdfast.holder", `{"holder_id":"no\nbody"}`, "404", "holder_id", `no\nbody`},
	} {
		m, err := w.request(test.subject, test.body)
		if err != nil {
			t.Fatalf("%s %s: %v", test.subject, test.body, err)
		}
		var said struct{ Error failure }
		err = json.Unmarshal(m.Data, &said)
		if code, description := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader); err != nil || code != test.code ||
			said.Error.Field != test.field || !strings.Contains(said.Error.Reason, test.reason) || description != said.Error.Reason {
			t.Errorf("%s %s: code %s, %q, %s, %v; want %s for %q, … %s …", test.subject, test.body, code, description, m.Data, err, test.code, test.field, test.reason)
		}
	}
}

func TestNATSAnswersThatNoMessageTakes(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	var batch []events.HoldEvent
	for i := range 5000 {
		batch = append(batch, hold(fmt.Sprintf("%0128d", i), 0, 100, 1))
	}
	w.put(batch...)
	w.flush()
	r := started(t, w, export.Options{NATSService: true})
	r.awaitFolded(w)
	w.awaitService()
	m, err := w.request("holdfast.top", `{"n":5000}`)
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get(micro.ErrorCodeHeader) != "400" || !strings.Contains(string(m.Data), "1048576") {
		t.Errorf("%v %.200s", m.Header, m.Data)
	}
	var top topAnswer
	if err := json.Unmarshal([]byte(w.ask("holdfast.top", `{"n":1000}`)), &top); err != nil || len(top.Holders) != 1000 {
		t.Errorf("%d holders, %v", len(top.Holders), err)
	}
}

func TestNATSServiceIsFoundAndShared(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 100, 1))
	w.flush()
	for range 2 {
		started(t, w, export.Options{NATSService: true}).awaitFolded(w)
	}
	nc := w.client.Conn()
	answers, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	collect := func(subject string, n int) (messages []*nats.Msg) {
		t.Helper()
		if err := nc.PublishRequest(subject, answers.Subject, nil); err != nil {
			t.Fatal(err)
		}
		for range n {
			m, err := answers.NextMsgWithContext(testContext(t))
			if err != nil {
				t.Fatalf("%s: %v", subject, err)
			}
			messages = append(messages, m)
		}
		return messages
	}
	found := map[string]bool{}
	until(t, "both are found", func() bool {
		var pong micro.Ping
		if m, err := w.request("$SRV.PING.holdfast", ""); err == nil && json.Unmarshal(m.Data, &pong) == nil {
			found[pong.ID] = true // whichever was faster
		}
		return len(found) == 2
	})

	var info micro.Info
	if err := json.Unmarshal(collect("$SRV.INFO.holdfast", 2)[0].Data, &info); err != nil {
		t.Fatal(err)
	}
	subjects := map[string]string{}
	for _, e := range info.Endpoints {
		subjects[e.Name] = e.Subject
		if e.QueueGroup == "" || e.Metadata["request"] == "" || e.Metadata["answer"] == "" {
			t.Errorf("endpoint %s: %+v", e.Name, e)
		}
	}
	want := map[string]string{"stats": "holdfast.stats", "top": "holdfast.top", "poh": "holdfast.poh", "holder": "holdfast.holder.>", "holder-in-body": "holdfast.holder"}
	if diff := gocmp.Diff(want, subjects); diff != "" || info.Version == "" || info.Description == "" {
		t.Errorf("%+v (-want +got):\n%s", info, diff)
	}

	// Each request is answered once, and the exporters share them.
	const requests = 200
	for range requests {
		w.ask("holdfast.holder.a", "")
	}
	total := 0
	var asked []*micro.EndpointStats // of each exporter, which counts a request once it has answered it
	until(t, "all requests are counted", func() bool {
		total, asked = 0, nil
		for _, m := range collect("$SRV.STATS.holdfast", 2) {
			var stats micro.Stats
			if err := json.Unmarshal(m.Data, &stats); err != nil {
				t.Fatal(err)
			}
			for _, e := range stats.Endpoints {
				if total += e.NumRequests; e.Name == "holder" {
					asked = append(asked, e)
				}
			}
		}
		return total >= requests
	})
	for _, e := range asked {
		if e.NumRequests == 0 || e.NumErrors != 0 {
			t.Errorf("one of two exporters had %d of %d requests, and %d errors", e.NumRequests, requests, e.NumErrors)
		}
	}
	if total != requests || len(asked) != 2 {
		t.Errorf("%d requests were answered %d times, by %d exporters", requests, total, len(asked))
	}
}

func TestNATSServiceComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	silent := func() bool {
		_, err := w.request("holdfast.stats", "")
		return errors.Is(err, nats.ErrNoResponders)
	}
	t.Run("runs", func(t *testing.T) {
		r := run(t, w, export.Options{NATSService: true})
		until(t, "the exporter has looked for the buckets", func() bool { return strings.Contains(r.log.String(), "cannot follow the bucket") })
		if !silent() {
			t.Error("somebody answers before the state is loaded")
		}
		w.declare()
		r.awaitReady()
		w.awaitService()
		started(t, w, export.Options{}) // which does not answer
		var pong micro.Ping
		if m, err := w.request("$SRV.PING.holdfast", ""); err != nil || json.Unmarshal(m.Data, &pong) != nil || pong.Name != export.ServiceName {
			t.Errorf("%+v, %v", pong, err)
		}
	})
	if !silent() {
		t.Error("somebody answers though all exporters have stopped")
	}
}
