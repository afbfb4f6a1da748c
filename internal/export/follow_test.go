package export

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// That a stream is another one is not forgotten because it cannot be asked again.
func TestAForeignStreamStaysForeign(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", SyncInterval: time.Minute})
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
	nc, err := jetstream.Connect(ctx, jetstream.Options{URL: server.URL(), Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	client, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	policy := state.DefaultPolicy()
	if _, err := client.Apply(ctx, jetstream.Declaration{Policy: policy.Map()}); err != nil {
		t.Fatal(err)
	}

	f := &follower[*roll]{log: jetstream.Holds, logger: slog.New(slog.DiscardHandler), now: time.Now}
	f.current.Store(&folded[*roll]{policy: &policy})
	if err := f.refresh(ctx, client); err != nil {
		t.Errorf("nothing is folded: %v", err)
	}
	away, stop := context.WithCancel(ctx)
	stop()
	if err := f.refresh(away, client); err != nil {
		t.Errorf("the stream cannot be reached, and nothing was wrong: %v", err)
	}
	of := folded[*roll]{policy: &policy}
	of.partitions[0] = &partition[*roll]{revision: 1, checkpoint: &state.Checkpoint{Stream: jetstream.Holds.Stream, Created: 1}}
	f.current.Store(&of)
	for _, ctx := range []context.Context{ctx, away} {
		if err := f.refresh(ctx, client); !errors.Is(err, state.ErrForeign) {
			t.Errorf("the stream is another one: %v", err)
		}
	}
}
