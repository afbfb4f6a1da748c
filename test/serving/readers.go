package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
)

const (
	// ofAll is how many of the readers that read have all holders; the others have the first topSize of the ranking.
	ofAll   = 20
	topSize = 100
	// checkedAll and checkedTop are how many of these keep what they are told, and are looked at in the end.
	checkedAll = 3
	checkedTop = 20

	streamsAConnection = 50
)

// readers are the streams of Broadcast.
type readers struct {
	running  sync.WaitGroup
	checked  []*reader
	messages atomic.Int64 // that readers who read have got
	ended    atomic.Int64 // streams of those that the exporter ended
	resets   atomic.Int64 // streams of the others, who do not read, that it ended
	calm     atomic.Int64 // of these, with ENHANCE_YOUR_CALM

	mu   sync.Mutex
	last string // why a stream of a reader who reads was ended; guarded by mu
}

// reader is one that reads, and keeps what it is told.
type reader struct {
	request *v1.BroadcastRequest

	mu       sync.Mutex
	known    map[string]told // by id; guarded by mu
	position *v1.Position    // of the last resumable message; guarded by mu
	complete int             // how many there were; guarded by mu
}

// told is what a reader was told of a holder.
type told struct {
	at          time.Time
	score, rate string
	rank        uint64
}

// startReaders starts all of them.
func startReaders(ctx context.Context, r *rig, o *Options) (*readers, error) {
	all := &readers{}
	silent := o.Readers * 3 / 10
	for range silent {
		all.running.Go(func() {
			comeAgain(ctx, r.grpc(), func(c net.Conn) { all.neverRead(c) })
		})
	}
	var conn *grpc.ClientConn
	for i := range o.Readers - silent {
		if i%streamsAConnection == 0 {
			var err error
			if conn, err = grpc.NewClient(r.grpc(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
				return nil, err
			}
			opened := conn
			context.AfterFunc(ctx, func() { _ = opened.Close() })
		}
		one := &reader{request: &v1.BroadcastRequest{}}
		if i >= ofAll {
			one.request.Holders = &v1.BroadcastRequest_Top{Top: topSize}
		}
		keep := i < checkedAll || i >= ofAll && i < ofAll+checkedTop
		if keep {
			one.known = map[string]told{}
			all.checked = append(all.checked, one)
		}
		over := conn
		all.running.Go(func() { all.read(ctx, over, one) })
	}
	return all, nil
}

// read reads a stream, and goes on where it was if the exporter ends it.
func (a *readers) read(ctx context.Context, conn *grpc.ClientConn, r *reader) {
	for ctx.Err() == nil {
		err := a.readOnce(ctx, conn, r)
		if ctx.Err() != nil {
			return
		}
		a.ended.Add(1)
		a.mu.Lock()
		a.last = err.Error()
		a.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (a *readers) readOnce(ctx context.Context, conn *grpc.ClientConn, r *reader) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, holdfastv1connect.HoldMetricsBroadcastProcedure, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	request := &v1.BroadcastRequest{Holders: r.request.Holders, Resume: r.position}
	if err := errors.Join(stream.SendMsg(request), stream.CloseSend()); err != nil {
		return err
	}
	for {
		var m v1.BroadcastResponse
		if err := stream.RecvMsg(&m); err != nil {
			return err
		}
		a.messages.Add(1)
		r.take(&m)
	}
}

// take takes in a message.
func (r *reader) take(m *v1.BroadcastResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.GetResumable() {
		r.position = m.GetPosition()
	}
	if r.known == nil {
		return
	}
	if m.GetSnapshotBegin() != nil {
		r.known = map[string]told{}
	}
	at := m.GetPosition().GetAt().AsTime()
	for _, h := range append(m.GetSnapshot().GetHolders(), m.GetChanges().GetChanged()...) {
		r.known[h.GetHolderId()] = told{at, h.GetScoreExact(), h.GetRateExact(), h.GetRank()}
	}
	for _, id := range m.GetChanges().GetGone() {
		delete(r.known, id)
	}
	if m.GetResumable() {
		r.complete++
	}
}

// scoreAt goes on along the line, in 10⁻¹² weight·seconds.
func (t told) scoreAt(at time.Time) *big.Int {
	passed := big.NewInt(at.Sub(t.at).Milliseconds())
	return passed.Mul(passed, scaled(t.rate, 9)).Add(passed, scaled(t.score, 12))
}

// scaled reads a decimal as an integer in units of 10^-digits.
func scaled(decimal string, digits int) *big.Int {
	whole, fraction, _ := strings.Cut(decimal, ".")
	n, ok := new(big.Int).SetString(whole+fraction+strings.Repeat("0", digits-len(fraction)), 10)
	if !ok {
		panic(decimal)
	}
	return n
}

// check compares, when nothing is published any more, what readers know with what the exporter answers.
func (a *readers) check(ctx context.Context, r *rig) error {
	if err := r.folded(ctx); err != nil {
		return err
	}
	wrong := make([]error, len(a.checked))
	var checks sync.WaitGroup
	for i, one := range a.checked {
		checks.Go(func() {
			if err := one.check(ctx, r); err != nil {
				wrong[i] = fmt.Errorf("reader %d (%v): %w", i, one.request, err)
			}
		})
	}
	checks.Wait()
	if n := a.ended.Load(); n > 0 {
		a.mu.Lock()
		wrong = append(wrong, fmt.Errorf("%d streams of readers who read were ended, the last with %s", n, a.last))
		a.mu.Unlock()
	}
	if a.resets.Load() == 0 || a.calm.Load() != a.resets.Load() {
		wrong = append(wrong, fmt.Errorf("%d streams of readers who do not read were reset, %d of them with ENHANCE_YOUR_CALM", a.resets.Load(), a.calm.Load()))
	}
	return errors.Join(wrong...)
}

func (r *reader) check(ctx context.Context, rig *rig) error {
	r.mu.Lock()
	from := r.complete
	r.mu.Unlock()
	if err := rig.await(ctx, "two more messages", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.complete >= from+2
	}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.position.GetAt().AsTime()
	moment := fmt.Sprintf("at=%d.%03d", at.Unix(), at.Nanosecond()/1_000_000)
	if r.request.GetTop() == 0 {
		var answer struct {
			ScoreExact string `json:"score_exact"`
			Holders    int    `json:"holders"`
		}
		if err := rig.ask(ctx, "/stats?"+moment, &answer); err != nil {
			return err
		}
		sum := new(big.Int)
		for _, t := range r.known {
			sum.Add(sum, t.scoreAt(at))
		}
		if sum.Cmp(scaled(answer.ScoreExact, 12)) != 0 || answer.Holders != len(r.known) {
			return fmt.Errorf("it knows %d holders and %v·10⁻¹² weight·seconds %s; the exporter has %d and %s", len(r.known), sum, moment, answer.Holders, answer.ScoreExact)
		}
		return nil
	}
	var answer struct {
		Holders []struct {
			Rank       uint64
			HolderID   string `json:"holder_id"`
			ScoreExact string `json:"score_exact"`
		}
	}
	if err := rig.ask(ctx, fmt.Sprintf("/top?n=%d&%s", topSize, moment), &answer); err != nil {
		return err
	}
	if len(answer.Holders) != len(r.known) {
		return fmt.Errorf("it knows %d holders %s, the exporter has %d", len(r.known), moment, len(answer.Holders))
	}
	for _, h := range answer.Holders {
		if t, ok := r.known[h.HolderID]; !ok || t.rank != h.Rank || t.scoreAt(at).Cmp(scaled(h.ScoreExact, 12)) != 0 {
			return fmt.Errorf("of %q it knows %v %s; the exporter has %v", h.HolderID, t, moment, h)
		}
	}
	return nil
}

// ask reads a JSON answer of the exporter.
func (r *rig) ask(ctx context.Context, path string, into any) error {
	code, body, err := r.get(ctx, path)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d %s", code, body)
	}
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// neverRead begins a stream and grants it no more than HTTP/2's first 64 KiB; it notes by what code the stream is reset.
func (a *readers) neverRead(c net.Conn) {
	var headers strings.Builder
	encoder := hpack.NewEncoder(&headers)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", holdfastv1connect.HoldMetricsBroadcastProcedure}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return
		}
	}
	_, err := io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	err = errors.Join(err, framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(headers.String()), EndHeaders: true}),
		framer.WriteData(1, true, make([]byte, 5)))
	for err == nil {
		var frame http2.Frame
		if frame, err = framer.ReadFrame(); err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if !f.IsAck() {
				err = framer.WritePing(true, f.Data)
			}
		case *http2.RSTStreamFrame:
			a.resets.Add(1)
			if f.ErrCode == http2.ErrCodeEnhanceYourCalm {
				a.calm.Add(1)
			}
			return
		}
	}
}
