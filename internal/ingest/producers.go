package ingest

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/city-chain/holdfast/internal/ingest/producers"
	"github.com/city-chain/holdfast/internal/rpc"
	"github.com/city-chain/holdfast/pkg/events"
)

// ProducerFlags say who may send events, and how many, to be embedded in a command's flags. With the zero ProducerFlags anybody may
// send as much as he likes.
type ProducerFlags struct {
	// Producers is the path of the file that lists who may send; empty means that anybody may.
	Producers string `name:"producers" help:"YAML file of who may send: names, SHA-256 of tokens, limits (docs/producers.md). Without one, anybody who can connect may, and all together are one producer, anonymous." placeholder:"FILE" group:"Producers:"`
	// The limits of each producer to whom the file gives none; 0 is no limit, and of a burst or of what is remembered the default
	// that [producers.Limits] says.
	LimitEvents      float64 `help:"Most events a second of a producer; 0 = no limit. It, and what follows, is for those to whom the file gives no other." default:"0" group:"Producers:"`
	LimitEventsBurst int     `help:"Most events at once; 0 = those of one second." default:"0" group:"Producers:"`
	LimitNew         float64 `help:"Most new holders, nodes and series of requests a second of a producer; 0 = no limit." default:"0" group:"Producers:"`
	LimitNewBurst    int     `help:"Most of these at once; 0 = as many as are remembered, so that none has to wait after a restart, which forgets them." default:"0" group:"Producers:"`
	LimitRemember    int     `help:"How many of these are remembered, and so not new when they come again; each takes about 50 bytes." default:"100000" group:"Producers:"`
	LimitBytes       float64 `help:"Most bytes of bodies and messages a second of a producer; 0 = no limit." default:"0" group:"Producers:"`
	LimitBytesBurst  int     `help:"Most bytes at once; 0 = those of one second." default:"0" group:"Producers:"`
}

// Validate is called when the flags are parsed.
func (f ProducerFlags) Validate() error {
	_, err := f.set(nil)
	return err
}

// set reads the producers, whose limits go by that clock.
func (f ProducerFlags) set(now func() time.Time) (*producers.Set, error) {
	return producers.New(producers.Options{File: f.Producers, Now: now, Limits: producers.Limits{
		Events:   producers.Rate{PerSecond: f.LimitEvents, Burst: f.LimitEventsBurst},
		New:      producers.Rate{PerSecond: f.LimitNew, Burst: f.LimitNewBurst},
		Bytes:    producers.Rate{PerSecond: f.LimitBytes, Burst: f.LimitBytesBurst},
		Remember: f.LimitRemember,
	}})
}

// sender is whose a request is.
type sender struct {
	*producers.Producer
	metrics *producerMetrics
}

// find returns whose a request is. It counts those that are denied.
func (s *Service) find(h http.Header) (*sender, *producers.Denied) {
	p, err := s.producers.Find(h)
	if denied, ok := errors.AsType[*producers.Denied](err); ok {
		s.metrics.denied.WithLabelValues(denied.Producer, denied.Reason).Inc()
		return nil, denied
	}
	return &sender{p, s.metrics.producers[p.Name()]}, nil
}

// limited returns what a limit says of a request, and counts it; nil: nothing.
func (p *sender) limited(err error) *producers.OverLimit {
	over, ok := errors.AsType[*producers.OverLimit](err)
	if ok {
		p.metrics.limited[over.Limit].Inc()
	}
	return over
}

// takeBytes, begin and take are those of a producer and its request, counted.

func (p *sender) takeBytes(n int64) *producers.OverLimit { return p.limited(p.TakeBytes(n)) }

func (p *sender) begin(events int) (*producers.Request, *producers.OverLimit) {
	r, err := p.Request(events)
	return r, p.limited(err)
}

func (p *sender) take(r *producers.Request) *producers.OverLimit { return p.limited(r.Take()) }

// refused counts an event that is wrong in itself.
func (p *sender) refused(reason events.Reason) {
	p.metrics.refused.WithLabelValues(reason.String()).Inc()
}

// limitDetail is what an answer says of a limit, for programs.
type limitDetail struct {
	Producer  string  `json:"producer"`
	Name      string  `json:"name"` // events, new or bytes
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
	Asked     int64   `json:"asked"`
	Left      int64   `json:"left"`
}

// overLimit makes the problem of a request that is over a limit.
func overLimit(over *producers.OverLimit) *problem {
	status := http.StatusTooManyRequests
	if over.Wait == 0 {
		status = http.StatusRequestEntityTooLarge
	}
	p := refuseRequest(status, "%v", over)
	p.retryAfter = over.Seconds()
	p.Limit = &limitDetail{over.Producer, over.Limit, over.Rate.PerSecond, over.Rate.Burst, over.Asked, over.Left}
	return p
}

// deny answers a request that is nobody's, or not whose it says.
func deny(w http.ResponseWriter, denied *producers.Denied) {
	status := http.StatusUnauthorized
	if denied.Reason == producers.OtherName {
		status = http.StatusForbidden
	} else {
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	p := refuseRequest(status, "%v", denied)
	p.Reason = denied.Reason
	answer{Problem: p}.write(w)
}

// Reasons of calls that fail for whose they are, and for a limit.
const (
	reasonLimited   = "LIMITED"    // send it again after the time that RetryInfo says
	reasonOverBurst = "OVER_BURST" // it is too large for a limit, now and later
)

var deniedReasons = map[string]string{producers.NoToken: "NO_TOKEN", producers.UnknownToken: "UNKNOWN_TOKEN", producers.OtherName: "OTHER_NAME"}

// denyCall is the error of a call that is nobody's, or not whose it says.
func denyCall(denied *producers.Denied) error {
	code := connect.CodeUnauthenticated
	if denied.Reason == producers.OtherName {
		code = connect.CodePermissionDenied
	}
	return rpc.Fail(code, deniedReasons[denied.Reason], nil, "%w", denied)
}

// limitCall is the error of a call whose message is over a limit.
func limitCall(over *producers.OverLimit) *connect.Error {
	metadata := map[string]string{
		"producer": over.Producer, "limit": over.Limit, "per_second": strconv.FormatFloat(over.Rate.PerSecond, 'f', -1, 64),
		"burst": strconv.Itoa(over.Rate.Burst), "asked": strconv.FormatInt(over.Asked, 10), "left": strconv.FormatInt(over.Left, 10),
	}
	if over.Wait == 0 {
		err := rpc.Fail(connect.CodeInvalidArgument, reasonOverBurst, metadata, "%w", over)
		return rpc.With(err, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "events", Description: over.Error()}}})
	}
	err := rpc.Fail(connect.CodeResourceExhausted, reasonLimited, metadata, "%w", over)
	rpc.With(err, &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "producer:" + over.Producer, Description: over.Error()}}})
	return rpc.Retry(err, over.Wait)
}
