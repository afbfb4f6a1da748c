package live

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ttl is how long holders count in TestAbsence.
const ttl = 2 * time.Second

// TestAbsence has the aggregator away for longer than holders count. What comes after a holder has expired starts from zero, and
// what comes before it adds up, just as if the aggregator had been there: the timestamps of the stream decide, and no other clock.
func TestAbsence(t *testing.T) {
	t.Parallel()
	server := natsServer(t)
	aggregator := start(t, "aggregator", "--nats", server, "--ttl", ttl.String())
	exporter := start(t, "exporter", "--nats", server)
	aggregator.await(t, "http://"+aggregator.address(t, "aggregator")+"/readyz", nil)
	address := exporter.address(t, "exporter")
	exporter.await(t, "http://"+address+"/readyz", nil)
	s := newShortLived(t, server)

	s.publish(t, "gone", instant(1_000_000), instant(1_100_000))
	s.publish(t, "ends later", instant(1_000_000), instant(time.Now().Add(time.Hour).UnixMilli()))
	s.publish(t, "open", instant(1_000_000), 0)
	s.publish(t, "comes again", instant(1_000_000), instant(1_100_000))
	s.publish(t, "comes again", instant(2_000_000), instant(2_100_000))
	awaitFolded(t, address, 5)
	aggregator.kill()

	s.publish(t, "comes again", instant(3_000_000), instant(3_100_000))
	s.awaitExpired(t, "comes again")
	for _, holder := range []string{"gone", "ends later", "open", "comes again", "new"} {
		s.publish(t, holder, instant(5_000_000), instant(5_050_000))
	}
	start(t, "aggregator", "--nats", server) // which goes on by the policy that is recorded
	awaitFolded(t, address, 11)

	if diff := cmp.Diff(map[string]bool{"gone": true, "comes again": true}, s.expired); diff != "" {
		t.Errorf("by the timestamps of the stream, these have expired (-want +got):\n%s", diff)
	}
	var top struct {
		Holders []struct {
			HolderID   string `json:"holder_id"`
			ScoreExact string `json:"score_exact"`
		}
	}
	answer(t, fmt.Sprintf("http://%s/top?at=%s", address, s.clock.seconds()), &top)
	got := map[string]string{}
	for _, h := range top.Holders {
		got[h.HolderID] = h.ScoreExact
	}
	if diff := cmp.Diff(s.scores(), got); diff != "" {
		t.Errorf("at %s (-want +got):\n%s", s.clock.seconds(), diff)
	}
}

// shortLived publishes holds of weight 1 as any client of NATS may, and knows by the stream's timestamps what they come to.
type shortLived struct {
	js      jetstream.JetStream
	holds   map[string][]span  // that still count, by holder
	last    map[string]instant // event, or end of a hold
	expired map[string]bool    // holders that have started from zero
	clock   instant            // the last timestamp
}

type span struct{ from, to instant } // to is 0 while it is open

func newShortLived(t *testing.T, server string) *shortLived {
	t.Helper()
	nc, err := nats.Connect(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &shortLived{js: js, holds: map[string][]span{}, last: map[string]instant{}, expired: map[string]bool{}}
}

// publish publishes a hold, open if to is 0, and does with it by hand what the fold is to do.
func (s *shortLived) publish(t *testing.T, holder string, from, to instant) {
	t.Helper()
	event := map[string]any{"token_id": "gold", "holder_id": holder, "start": from.seconds(), "weight": 1}
	if to > 0 {
		event["end"] = to.seconds()
	}
	body, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	at := s.stamp(t, "hold."+strings.ReplaceAll(holder, " ", "=20"), body)
	s.clock = max(s.clock, at)

	open := false
	for _, hold := range s.holds[holder] {
		open = open || hold.to == 0
	}
	if last, known := s.last[holder]; known && !open && at > last+instant(ttl.Milliseconds()) {
		s.expired[holder] = true
		s.holds[holder], s.last[holder] = nil, 0
	}
	s.holds[holder] = append(s.holds[holder], span{from, to})
	s.last[holder] = max(s.last[holder], at, to)
}

// stamp publishes a message and returns the time that the server stored it at.
func (s *shortLived) stamp(t *testing.T, subject string, body []byte) instant {
	t.Helper()
	bounded, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ack, err := s.js.Publish(bounded, subject, body)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := s.js.Stream(bounded, ack.Stream)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := stream.GetMsg(bounded, ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	return instant(stored.Time.UnixMilli())
}

// awaitExpired waits until a holder whose last event was the last one has expired. The clock is that of the server, which is in
// this process.
func (s *shortLived) awaitExpired(t *testing.T, holder string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Now().UnixMilli() <= int64(s.last[holder])+ttl.Milliseconds() {
		<-tick.C
	}
}

// scores returns what the holds come to at the last timestamp.
func (s *shortLived) scores() map[string]string {
	k := newKnown(s.clock)
	for holder, holds := range s.holds {
		for _, hold := range holds {
			to := hold.to
			if to == 0 || to > k.at {
				to = k.at
			}
			k.held(holder, big.NewInt(1e9), hold.from, to)
		}
	}
	return k.exact()
}
