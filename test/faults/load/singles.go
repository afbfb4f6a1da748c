package load

import (
	"context"
	"fmt"
	"math/big"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/test/faults/check"
)

const (
	singlePause = 150 * time.Millisecond // between two messages of each of the lanes of singles
	gapsPause   = 20 * time.Second       // between one producer that leaves gaps and the next
	singleLanes = 4                      // so that the others go on while one waits for an answer that does not come
)

// singles sends messages without numbers, once each, until the faults are over.
func (p *producer) singles(ctx context.Context) error {
	var lanes sync.WaitGroup
	for lane := range singleLanes {
		random := p.fork(p.name + strconv.Itoa(lane))
		lanes.Go(func() {
			for i := 0; i < 5 || !p.ended(); i++ {
				id := fmt.Sprintf("single-%d-%d", lane, i)
				switch n := random.IntN(len(generate.Messages) + 8); {
				case n < len(generate.Messages):
					m := generate.Messages[n]
					p.once(ctx, id, m.Subject, []byte(m.Data), check.Single{Refused: m.Reason.String(), Events: 1})
				case n == len(generate.Messages):
					p.claimAnew(ctx, "epochs-"+id)
				default:
					w, start := events.Weight{Lo: random.Uint64N(1e12) + 1}, now()-10*day
					end := start + events.Time(random.Int64N(day))
					holder := "single." + id
					data := openForm(random.IntN(2) == 0, map[string]any{
						"token_id": "gold", "holder_id": holder, "start": start.Seconds(), "end": end.Seconds(), "weight": w.String(),
					})
					p.once(ctx, id, jetstream.Holds.Subject(events.EncodeID(holder)), data, check.Single{Holder: holder, Adds: add(nil, w, end-start)})
				}
				select {
				case <-time.After(singlePause):
				case <-ctx.Done():
					return
				}
			}
		})
	}
	lanes.Wait()
	return ctx.Err()
}

// openForm writes an event as any client may: in JSON or MessagePack.
func openForm(asJSON bool, fields map[string]any) []byte {
	if !asJSON {
		data, err := msgpack.Marshal(fields)
		if err != nil {
			panic(err) // texts can always be written
		}
		return data
	}
	text := ""
	for name, value := range fields {
		text += fmt.Sprintf(",%q:%q", name, value)
	}
	return []byte("{" + text[1:] + "}")
}

// once publishes a message and notes what comes of it if it is stored.
func (p *producer) once(ctx context.Context, id, subject string, data []byte, s check.Single) (acknowledged bool) {
	err := p.publish(ctx, &nats.Msg{Subject: subject, Data: data, Header: nats.Header{nats.MsgIdHdr: {id}}})
	s.Acknowledged = err == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known.Singles[id] = s
	if s.Acknowledged {
		p.sent.Add(max(1, int64(s.Events)))
	}
	return s.Acknowledged
}

// claimAnew is a producer of that name that claims it anew, and then sends something under the old epoch.
func (p *producer) claimAnew(ctx context.Context, name string) {
	const count = 3
	list := make([]events.HoldEvent, count)
	for i := range list {
		list[i] = events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: name, Start: 1000, End: 2000, Weight: events.Weight{Lo: 7}}
	}
	subject := jetstream.Holds.PartitionSubject(events.PlaceOf(name).Partition)
	counted := check.Single{Holder: name, Adds: new(big.Int).Mul(add(nil, list[0].Weight, 1000), big.NewInt(count))}
	send := func(step string, epoch uint64, s check.Single) bool {
		return p.once(ctx, name+step, subject, events.AppendHolds(nil, events.Origin{Producer: name, Epoch: epoch, First: 1}, list), s)
	}
	if send("-first", 1, counted) && send("-second", 2, counted) { // else no one knows which epoch it is
		send("-late", 1, check.Single{Refused: "stale_epoch", Events: count})
	}
}

// gaps has producers that leave more gaps in their numbers than are kept, until the faults are over.
func (p *producer) gaps(ctx context.Context) error {
	const kept = 64
	for i := 0; i == 0 || !p.ended(); i++ {
		holder := fmt.Sprintf("gaps %d", i)
		w := events.Weight{Lo: 3}
		list := []events.HoldEvent{{Kind: events.KindHold, Token: "gold", Holder: holder, Start: 1000, End: 2000, Weight: w}}
		partition := events.PlaceOf(holder).Partition
		for n := range uint64(kept + 2) {
			s := check.Single{Holder: holder, Adds: add(nil, w, 1000)}
			if n >= kept {
				s = check.Single{Refused: "too_many_gaps", Events: 1}
			}
			data := events.AppendHolds(nil, events.Origin{Producer: holder, First: 2 + 2*n}, list)
			if !p.once(ctx, fmt.Sprintf("gap-%d-%d", i, n), jetstream.Holds.PartitionSubject(partition), data, s) {
				break // no one knows how many there are now
			}
		}
		for range int(gapsPause / singlePause) {
			select {
			case <-time.After(singlePause):
			case <-ctx.Done():
				return ctx.Err()
			}
			if p.ended() {
				break
			}
		}
	}
	return nil
}
