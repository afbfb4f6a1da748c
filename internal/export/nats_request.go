package export

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// maxRequest is the most bytes that the body of a request over NATS may have.
const maxRequest = 4 << 10

// holderSubject is what the subject of a question about a holder begins with.
const holderSubject = ServiceName + ".holder."

// idsInSubjects says how an id becomes a part of a subject.
const idsInSubjects = "one token, as in the subjects of events: letters, digits, - and _ stand for themselves, every other byte is = and two upper-case hexadecimal digits (a.b is a=2Eb); " +
	`or ask ` + ServiceName + `.holder with {"holder_id":"a.b"}`

// refusal is why a request has no answer, with the status that HTTP has for it.
type refusal struct {
	status int
	problem
}

// Error implements error.
func (r *refusal) Error() string { return r.Reason }

func refuse(status int, field, format string, values ...any) *refusal {
	return &refusal{status, problem{Field: field, Reason: fmt.Sprintf(format, values...)}}
}

// refusalOf says what is wrong with a question that failed.
func refusalOf(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	if forgotten, ok := errors.AsType[*score.ForgottenError](err); ok {
		since := instant(forgotten.Since)
		return &refusal{http.StatusBadRequest, problem{Field: "at", Reason: err.Error(), KnownSince: &since}}
	}
	switch {
	case errors.Is(err, ErrNotLoaded):
		return refuse(http.StatusServiceUnavailable, "", "%v", err)
	case errors.Is(err, ErrNoHolder):
		return refuse(http.StatusNotFound, "holder_id", "%v; in a subject an id is %s", err, idsInSubjects)
	}
	panic("export: a question failed in a way that has no answer: " + err.Error())
}

// endpoints are all questions that can be asked over NATS. A request's body is a JSON object whose keys are the parameters
// that the question has over HTTP, or nothing.
func (n *natsService) endpoints() []endpoint {
	ask := func(parameters []string, question func(*Snapshot, query) (any, error)) func(string, []byte) (any, error) {
		return func(_ string, body []byte) (any, error) {
			given, err := readObject(body)
			if err != nil {
				return nil, err
			}
			return n.ask(given, parameters, question)
		}
	}
	return []endpoint{
		{"stats", ServiceName + ".stats", `nothing, or {"at": Unix seconds or RFC 3339}`, "as GET /stats", ask([]string{"at"}, func(s *Snapshot, q query) (any, error) {
			totals, err := s.Totals(q.at)
			return statsAnswer(s, &totals), err
		})},
		{"top", ServiceName + ".top", fmt.Sprintf(`nothing, or {"n": 1 to %d, "at": Unix seconds or RFC 3339, "page_token": the last page's next_page_token}`, MaxTop), "as GET /top", ask(topParameters, askTop)},
		{"holder", holderSubject + ">", `the id in the subject; nothing, or {"at": Unix seconds or RFC 3339}`, "as GET /holders/{id}", n.holderInSubject},
		{"holder-in-body", ServiceName + ".holder", `{"holder_id": "…", "at": Unix seconds or RFC 3339}`, "as GET /holders/{id}", n.holderInBody},
		{"poh", ServiceName + ".poh", fmt.Sprintf(`nothing, or {"n": 1 to %d series}`, MaxTop), "as GET /poh", ask([]string{"n"}, func(s *Snapshot, q query) (any, error) {
			return pohStatsAnswer(s, cmp.Or(q.n, DefaultSeries)), nil
		})},
	}
}

// ask answers a question from one snapshot.
func (n *natsService) ask(given url.Values, parameters []string, question func(*Snapshot, query) (any, error)) (any, error) {
	q, wrong := readQuery(given.Encode(), parameters)
	if wrong != nil {
		return nil, &refusal{http.StatusBadRequest, *wrong}
	}
	s, err := n.view.Snapshot()
	if err != nil {
		return nil, err
	}
	return question(s, q)
}

// holderInSubject answers for the holder whose encoded id ends the subject.
func (n *natsService) holderInSubject(subject string, body []byte) (any, error) {
	token := strings.TrimPrefix(subject, holderSubject)
	id, err := events.DecodeID(token)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "holder_id", "%v; in a subject an id is %s", err, idsInSubjects)
	}
	given, err := readObject(body)
	if err != nil {
		return nil, err
	}
	return n.holder(id, given)
}

// holderInBody answers for the holder whose id is in the body.
func (n *natsService) holderInBody(_ string, body []byte) (any, error) {
	given, err := readObject(body)
	if err != nil {
		return nil, err
	}
	if given.Get("holder_id") == "" {
		return nil, refuse(http.StatusBadRequest, "holder_id", `it is missing: ask with {"holder_id":"…"}, or ask %sID, where the ID is %s`, holderSubject, idsInSubjects)
	}
	id := given.Get("holder_id")
	given.Del("holder_id")
	return n.holder(id, given)
}

func (n *natsService) holder(id string, given url.Values) (any, error) {
	return n.ask(given, []string{"at"}, func(s *Snapshot, q query) (any, error) {
		h, err := s.Holder(id, q.at)
		return holderAnswer(&h), err
	})
}

// readObject reads a request's body: the parameters by name, as they would stand in a query.
func readObject(body []byte) (url.Values, error) {
	malformed := func(format string, values ...any) error {
		return refuse(http.StatusBadRequest, "body", `%s; a request is a JSON object such as {"n":3}, or nothing`, fmt.Sprintf(format, values...))
	}
	if len(body) > maxRequest {
		return nil, malformed("%d bytes, more than %d", len(body), maxRequest)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		return nil, malformed("%v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("something follows the object")
	}
	given := url.Values{}
	for name, value := range object {
		switch v := value.(type) {
		case string:
			given.Set(name, v)
		case json.Number:
			given.Set(name, v.String())
		default:
			return nil, refuse(http.StatusBadRequest, name, "it is neither a number nor a string")
		}
	}
	return given, nil
}
