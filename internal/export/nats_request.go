package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/city-chain/holdfast/pkg/events"
)

// maxRequest is the most bytes that the body of a request over NATS may have.
const maxRequest = 4 << 10

// holderSubject is what the subject of a question about a holder begins with.
const holderSubject = ServiceName + ".holder."

// idsInSubjects says how an id becomes a part of a subject.
const idsInSubjects = "one token, as in the subjects of events: letters, digits, - and _ stand for themselves, every other byte is = and two upper-case hexadecimal digits (a.b is a=2Eb); " +
	`or ask ` + ServiceName + `.holder with {"holder_id":"a.b"}`

// endpoints are all questions that can be asked over NATS. A request's body is a JSON object whose keys are the parameters
// that the question has over HTTP (and holder_id for its id), or nothing.
func (n *natsService) endpoints() []endpoint {
	ask := func(parameters []string, question func(*Snapshot, query) (any, error)) func(string, []byte) (any, *refusal) {
		return func(_ string, body []byte) (any, *refusal) {
			given, refused := readObject(body)
			if refused != nil {
				return nil, refused
			}
			return n.ask(given, parameters, question)
		}
	}
	return []endpoint{
		{"stats", ServiceName + ".stats", `nothing, or {"at": Unix seconds or RFC 3339}`, "as GET /stats", ask([]string{"at"}, askStats)},
		{"top", ServiceName + ".top", fmt.Sprintf(`nothing, or {"n": 1 to %d, "at": Unix seconds or RFC 3339, "page_token": the last page's next_page_token}`, MaxTop), "as GET /top", ask(topParameters, askTop)},
		{"holder", holderSubject + ">", `the id in the subject; nothing, or {"at": Unix seconds or RFC 3339}`, "as GET /holders/{id}", n.holderInSubject},
		{"holder-in-body", ServiceName + ".holder", `{"holder_id": "…", "at": Unix seconds or RFC 3339}`, "as GET /holders/{id}", n.holderInBody},
		{"poh", ServiceName + ".poh", fmt.Sprintf(`nothing, or {"n": 1 to %d series}`, MaxTop), "as GET /poh", ask([]string{"n"}, askPoH)},
	}
}

// ask answers a question from one snapshot.
func (n *natsService) ask(given url.Values, parameters []string, question func(*Snapshot, query) (any, error)) (any, *refusal) {
	q, wrong := readQuery(given.Encode(), parameters)
	if wrong != nil {
		return nil, &refusal{http.StatusBadRequest, *wrong}
	}
	s, err := n.view.Snapshot()
	if err != nil {
		return nil, refusalOf(err, q, idsInSubjects)
	}
	answer, err := question(s, q)
	if err != nil {
		return nil, refusalOf(err, q, idsInSubjects)
	}
	return answer, nil
}

// holderInSubject answers for the holder whose encoded id ends the subject.
func (n *natsService) holderInSubject(subject string, body []byte) (any, *refusal) {
	token := strings.TrimPrefix(subject, holderSubject)
	id, err := events.DecodeID(token)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "holder_id", "%v; in a subject an id is %s", err, idsInSubjects)
	}
	given, refused := readObject(body)
	if refused != nil {
		return nil, refused
	}
	return n.holder(id, given)
}

// holderInBody answers for the holder whose id is in the body.
func (n *natsService) holderInBody(_ string, body []byte) (any, *refusal) {
	given, refused := readObject(body)
	if refused != nil {
		return nil, refused
	}
	if len(given["holder_id"]) > 1 {
		return nil, refuse(http.StatusBadRequest, "holder_id", "it is given more than once")
	}
	if given.Get("holder_id") == "" {
		return nil, refuse(http.StatusBadRequest, "holder_id", `it is missing: ask with {"holder_id":"…"}, or ask %sID, where the ID is %s`, holderSubject, idsInSubjects)
	}
	id := given.Get("holder_id")
	given.Del("holder_id")
	return n.holder(id, given)
}

func (n *natsService) holder(id string, given url.Values) (any, *refusal) {
	if wrong := checkID(id); wrong != "" {
		return nil, refuse(http.StatusBadRequest, "holder_id", "%s", wrong)
	}
	return n.ask(given, []string{"at"}, func(s *Snapshot, q query) (any, error) { return askHolder(s, id, q.at) })
}

// readObject reads a request's body: the parameters by name, as they would stand in a query; one that is there twice, twice.
func readObject(body []byte) (url.Values, *refusal) {
	malformed := func(format string, values ...any) *refusal {
		return refuse(http.StatusBadRequest, "body", `%s; a request is a JSON object such as {"n":3}, or nothing`, fmt.Sprintf(format, values...))
	}
	if len(body) > maxRequest {
		return nil, malformed("%d bytes, more than %d", len(body), maxRequest)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, malformed("it is not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	next := func() (json.Token, error) {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return token, err
	}
	token, err := next()
	if err == nil && token != json.Delim('{') {
		return nil, malformed("it is JSON, but no object")
	}
	given := url.Values{}
	for err == nil {
		if token, err = next(); token == json.Delim('}') {
			break
		}
		name, _ := token.(string) // as all names are
		if token, err = next(); err != nil {
			break
		}
		switch value := token.(type) {
		case string:
			given.Add(name, value)
		case json.Number:
			given.Add(name, value.String())
		default:
			return nil, refuse(http.StatusBadRequest, name, "it is neither a number nor a string")
		}
	}
	if err != nil {
		return nil, malformed("%v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("something follows the object")
	}
	return given, nil
}
