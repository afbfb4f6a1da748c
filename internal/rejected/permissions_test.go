package rejected

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// privileges are the least that an account needs for these commands.
var privileges = server.Permissions{
	Publish: &server.SubjectPermission{Allow: []string{
		"hold.p.*", "poh.p.*", "$KV.RETRIES.>",
		"$JS.API.STREAM.INFO.HOLDS", "$JS.API.STREAM.INFO.POH", "$JS.API.STREAM.INFO.REJECTED", "$JS.API.STREAM.INFO.KV_RETRIES",
		"$JS.API.STREAM.MSG.GET.REJECTED", "$JS.API.STREAM.MSG.GET.KV_RETRIES",
		"$JS.API.STREAM.MSG.GET.KV_HOLDS_STATE", "$JS.API.STREAM.MSG.GET.KV_POH_STATE",
		"$JS.API.CONSUMER.*.REJECTED.>", "$JS.API.CONSUMER.*.KV_RETRIES.>",
		"$JS.API.CONSUMER.MSG.NEXT.REJECTED.*", "$JS.API.CONSUMER.MSG.NEXT.KV_RETRIES.*",
	}},
	Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_rejected.>"}},
}

func TestLeastPrivileges(t *testing.T) {
	t.Parallel()
	nats, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "operator", Password: "x"}, {Username: "retrier", Password: "x", Permissions: &privileges}},
	})
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(deadline) {
		t.Fatal("the server does not start")
	}
	connect := func(user, inbox string) *jetstream.Client {
		nc, err := jetstream.Connect(t.Context(), jetstream.Options{URL: "nats://" + user + ":x@" + nats.Addr().String(), InboxPrefix: inbox})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		c, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s := &testServer{T: t, client: connect("operator", ""), policy: state.DefaultPolicy()}
	s.apply()
	s.aggregate()
	holders := s.misrouted(3)
	ids := s.rejections(3)

	archive := Open(connect("retrier", "_INBOX_rejected"))
	if counts, err := archive.Count(t.Context(), Filter{}); err != nil || len(counts) != 1 {
		t.Errorf("%v, %v", counts, err)
	}
	if _, err := archive.Retry(t.Context(), ids[:1], nil); err != nil {
		t.Fatal(err)
	}
	summary, err := archive.RetryAll(t.Context(), Filter{}, nil, nil)
	if diff := cmp.Diff(Summary{Sent: 2, Before: 1}, summary); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if v, err := archive.Show(t.Context(), ids[2]); err != nil || v.SentAgain == nil {
		t.Errorf("%+v, %v", v, err)
	}
	if diff := cmp.Diff(once(holders...), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}
}
