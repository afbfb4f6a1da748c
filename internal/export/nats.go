package export

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/city-chain/holdfast/internal/service"
)

// ServiceName is the name of the exporter's service on NATS, and the first token of its subjects.
const ServiceName = "holdfast"

const (
	// loadedCheck is how often it is looked whether the state is loaded by now.
	loadedCheck = 50 * time.Millisecond
	// maxWaiting and maxWaitingBytes are how many requests of an endpoint wait, while one is answered. What comes beyond
	// that is dropped, and logged.
	maxWaiting      = 1024
	maxWaitingBytes = 4 << 20
	// stopFlush bounds the wait for the server to have taken notice that the service is gone.
	stopFlush = 2 * time.Second
)

// natsService is the exporter as a service on NATS: the same questions as over HTTP, by requests with JSON, in the manner
// of NATS's services, so that `nats service` finds it. Several exporters are one queue group: a request is answered by
// one of them. Each answers one request of an endpoint at a time.
type natsService struct {
	view *View
	nc   *nats.Conn
	log  *slog.Logger

	// answering is held, for reading, while a request is answered, and for writing when the service stops.
	answering sync.RWMutex
}

// endpoint is a question as it is asked over NATS.
type endpoint struct {
	name    string
	subject string
	request string // what a request holds, and what the answer is like, for who looks at the service
	answer  string
	handle  func(subject string, body []byte) (answer any, refused *refusal)
}

// run answers until ctx is done. It begins when the state is loaded, so that a request reaches an exporter that can answer.
func (n *natsService) run(ctx context.Context) {
	if !n.awaitLoaded(ctx) {
		return
	}
	added, err := n.add()
	if err != nil {
		n.log.Error("cannot answer on NATS", "error", err)
		return
	}
	n.log.Info("answering on NATS", "service", ServiceName, "id", added.Info().ID)
	<-ctx.Done()
	if err := added.Stop(); err != nil {
		n.log.Warn("the service on NATS did not stop in order", "error", err)
	}
	_ = n.nc.FlushTimeout(stopFlush) // it fails if NATS is away, and then nobody waits for an answer
	n.answering.Lock()               // until what runs is answered; then the connection may go
	defer n.answering.Unlock()
	n.log.Info("no longer answering on NATS")
}

// awaitLoaded waits until the state is loaded; false: ctx ended before.
func (n *natsService) awaitLoaded(ctx context.Context) bool {
	tick := time.NewTicker(loadedCheck)
	defer tick.Stop()
	for {
		if _, err := n.view.Snapshot(); err == nil {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// add makes the service known to NATS.
func (n *natsService) add() (micro.Service, error) {
	s, err := micro.AddService(n.nc, micro.Config{
		Name:        ServiceName,
		Version:     semanticVersion(service.ReadBuild().Version),
		Description: "Exact scores, rankings and totals, and what nodes did",
	})
	if err != nil {
		return nil, err
	}
	for _, e := range n.endpoints() {
		err := s.AddEndpoint(e.name, micro.HandlerFunc(func(r micro.Request) { n.serve(r, e) }),
			micro.WithEndpointSubject(e.subject),
			micro.WithEndpointPendingLimits(maxWaiting, maxWaitingBytes),
			micro.WithEndpointMetadata(map[string]string{"request": e.request, "answer": e.answer}),
		)
		if err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, nil
}

// semanticVersion is a build's version without what makes it none: micro takes no other.
func semanticVersion(version string) string {
	if v, ok := strings.CutPrefix(version, "v"); ok {
		return v
	}
	return "0.0.0-devel"
}

// serve answers a request, or says why not.
func (n *natsService) serve(r micro.Request, e endpoint) {
	n.answering.RLock()
	defer n.answering.RUnlock()
	start := time.Now()
	body, refused := n.answer(r, e)
	var err error
	if refused == nil {
		err = r.Respond(body)
	} else {
		err = r.Error(strconv.Itoa(refused.status), refused.Reason, encodeJSON(map[string]problem{"error": refused.problem}))
	}
	if err != nil {
		n.log.Warn("a request over NATS could not be answered", "subject", e.subject, "error", err)
	}
	n.log.Debug("request over NATS", "subject", r.Subject(), "bytes", len(body), "seconds", time.Since(start).Seconds())
}

// answer returns the body of an answer.
func (n *natsService) answer(r micro.Request, e endpoint) (body []byte, refused *refusal) {
	defer func() {
		if caught := recover(); caught != nil {
			n.log.Error("handler panicked", "subject", r.Subject(), "panic", caught, "stack", string(debug.Stack()))
			body, refused = nil, refuse(http.StatusInternalServerError, "", "internal error: see the exporter's log")
		}
	}()
	answer, refused := e.handle(r.Subject(), r.Data())
	if refused != nil {
		return nil, refused
	}
	body = encodeJSON(answer)
	if limit := n.nc.MaxPayload(); int64(len(body)) > limit {
		return nil, refuse(http.StatusBadRequest, "", "the answer has %d bytes, more than the %d that the NATS server takes in a message (max_payload): ask for fewer (n), or over HTTP", len(body), limit)
	}
	return body, nil
}
