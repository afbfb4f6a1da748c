package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"

	"github.com/city-chain/holdfast/pkg/events"
)

// item is one event of a body, still encoded. Its bytes are the body's.
type item struct {
	data []byte
	line int   // of the body, from 1, where a line is an event; else 0
	err  error // what is wrong with it already, a *events.Refusal
}

// splitter adds the events of a body to a list.
type splitter func(body []byte, into *itemList) *problem

// taken are the content types that are taken, for people.
const taken = "application/json (an object, an array, or an object a line), application/x-ndjson, application/msgpack (a map, an array of maps, or maps one after the other)"

// splitterOf returns how a request's body is to be split.
func splitterOf(r *http.Request) (splitter, *problem) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, refuseRequest(http.StatusUnsupportedMediaType, "the body's Content-Encoding is %.40q; send it as it is", encoding)
	}
	header := r.Header.Get("Content-Type")
	if header == "" {
		return splitJSON, nil
	}
	kind, parameters, err := mime.ParseMediaType(header)
	if err == nil && parameters["charset"] != "" && !isUTF8(parameters["charset"]) {
		return nil, refuseRequest(http.StatusUnsupportedMediaType, "the charset is %.40q; it must be utf-8", parameters["charset"])
	}
	switch kind {
	case "application/json", "text/json":
		return splitJSON, nil
	case "application/x-www-form-urlencoded", "text/plain":
		return splitJSON, nil // what curl -d and others say that were told no type
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
		return splitLines, nil
	case "application/msgpack", "application/x-msgpack", "application/vnd.msgpack":
		return splitMsgpack, nil
	}
	return nil, refuseRequest(http.StatusUnsupportedMediaType, "the Content-Type %.80q is not taken; taken are %s", header, taken)
}

func isUTF8(charset string) bool {
	return bytes.EqualFold([]byte(charset), []byte("utf-8")) || bytes.EqualFold([]byte(charset), []byte("utf8"))
}

// splitJSON splits one JSON object, an array, or objects that each have a line of their own.
func splitJSON(body []byte, into *itemList) *problem {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return refuseRequest(http.StatusBadRequest, "the body is empty")
	case trimmed[0] == '[':
		return splitArray(body, into)
	case trimmed[0] == '{' && json.Valid(trimmed):
		return into.add(item{data: trimmed})
	case objectALine(trimmed):
		return splitLines(body, into)
	}
	return notJSON(body)
}

// objectALine says whether a body that is not one JSON value is meant as several, one a line: all lines begin like an
// object. So they are judged one by one whichever of them is broken, and one broken object over several lines is not.
func objectALine(body []byte) bool {
	objects := 0
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if line[0] != '{' {
			return false
		}
		objects++
	}
	return objects > 1
}

// splitLines splits lines of one event each. Empty lines are none.
func splitLines(body []byte, into *itemList) *problem {
	number := 0
	for line := range bytes.Lines(body) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if p := into.add(jsonItem(line, number)); p != nil {
			return p
		}
	}
	if len(into.items) == 0 {
		return refuseRequest(http.StatusBadRequest, "the body is empty")
	}
	return nil
}

// splitArray splits a JSON array.
func splitArray(body []byte, into *itemList) *problem {
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return notJSON(body)
	}
	var value json.RawMessage
	for d.More() {
		if err := d.Decode(&value); err != nil {
			return notJSON(body)
		}
		end := int(d.InputOffset())
		if p := into.add(jsonItem(body[end-len(value):end], 0)); p != nil {
			return p
		}
	}
	if _, err := d.Token(); err != nil {
		return notJSON(body)
	}
	if _, err := d.Token(); err != io.EOF {
		return notJSON(body)
	}
	return nil
}

// errNotObject is shared by all items that it is about, of which there may be many.
var errNotObject = events.Refuse(events.Malformed, "", "not a JSON object: an event is one")

// jsonItem makes an item of what should be a JSON object, without white space around it.
func jsonItem(data []byte, line int) item {
	i := item{data: data, line: line}
	if data[0] != '{' {
		i.err = errNotObject
	}
	return i
}

// notJSON says where a body stops being one JSON object or array.
func notJSON(body []byte) *problem {
	var value json.RawMessage
	err := json.Unmarshal(body, &value)
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return refuseRequest(http.StatusBadRequest, "the body is neither a JSON object nor an array of them")
	}
	at := max(int(syntax.Offset)-1, 0) // the offset counts the byte that is wrong
	return refuseRequest(http.StatusBadRequest, "not JSON: %v (line %d, byte %d of the body); nothing of it was taken. To have events judged one by one, send one a line as application/x-ndjson",
		err, 1+bytes.Count(body[:at], []byte("\n")), at+1)
}

func tooMany(most int) *problem {
	return refuseRequest(http.StatusRequestEntityTooLarge, "over %d events in one request; nothing of it was taken, divide it", most)
}

// firstRead is how much memory a body gets before any of it has come.
const firstRead = 8 << 10

// readBody reads a request's body to its end. It takes memory as bytes come in, so that a claimed length costs nothing. Of the
// producer's limit on bytes it takes a claimed length before it reads, and else what has come; what has come of a body that breaks off counts too.
func (s *Service) readBody(w http.ResponseWriter, r *http.Request, from *sender, memory *share) (body []byte, p *problem) {
	if r.ContentLength > s.options.MaxBody {
		return nil, s.tooLarge(w)
	}
	if over := from.takeBytes(max(r.ContentLength, 0)); over != nil {
		w.Header().Set("Connection", "close") // rather than read what follows
		return nil, overLimit(over)
	}
	if r.ContentLength >= 0 {
		return s.readAll(w, r, memory)
	}
	if body, p = s.readAll(w, r, memory); p != nil {
		from.SpendBytes(int64(len(body)))
		return nil, p
	}
	if over := from.takeBytes(int64(len(body))); over != nil {
		return nil, overLimit(over)
	}
	return body, nil
}

// readAll reads a body; with a problem, it returns what had come.
func (s *Service) readAll(w http.ResponseWriter, r *http.Request, memory *share) (body []byte, p *problem) {
	in := http.MaxBytesReader(w, r.Body, s.options.MaxBody)
	for {
		if len(body) == cap(body) {
			more := int64(max(cap(body), firstRead))
			if !memory.take(more) {
				return body, tooBusy()
			}
			grown := make([]byte, len(body), len(body)+int(more))
			copy(grown, body)
			body = grown
		}
		n, err := in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return body, s.cutShort(w, err)
		}
	}
}

// cutShort says why a body could not be read.
func (s *Service) cutShort(w http.ResponseWriter, err error) *problem {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return s.tooLarge(w)
	}
	w.Header().Set("Connection", "close")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuseRequest(http.StatusRequestTimeout, "the body did not come within %v; nothing of it was taken", readTimeout)
	}
	return refuseRequest(http.StatusBadRequest, "the body ended early: %v; nothing of it was taken", err)
}

func (s *Service) tooLarge(w http.ResponseWriter) *problem {
	w.Header().Set("Connection", "close") // rather than read what follows
	return refuseRequest(http.StatusRequestEntityTooLarge, "the body is over %d bytes; nothing of it was taken, divide it", s.options.MaxBody)
}

// problem is why a request was answered without anything of it stored, or known to be.
type problem struct {
	status     int
	retryAfter int // seconds; 0 means that a retry will not help

	Reason  string       `json:"reason"` // from a bounded set, reasonOf and why a request is denied
	Message string       `json:"message"`
	Limit   *limitDetail `json:"limit,omitempty"` // the limit that it is over, if that is why
}

// refuseRequest makes the problem of a request that is wrong itself.
func refuseRequest(status int, format string, args ...any) *problem {
	return &problem{status: status, Reason: reasonOf[status], Message: fmt.Sprintf(format, args...)}
}

// unavailable makes the problem of a request that may be sent again after so many seconds.
func unavailable(retryAfter int, format string, args ...any) *problem {
	p := refuseRequest(http.StatusServiceUnavailable, format, args...)
	p.retryAfter = retryAfter
	return p
}

// reasonOf names the problems by their status. Unlike the messages, these are there to be matched on.
var reasonOf = map[int]string{
	http.StatusBadRequest:            events.Malformed.String(),
	http.StatusNotFound:              "not_found",
	http.StatusMethodNotAllowed:      "method_not_allowed",
	http.StatusRequestTimeout:        "timeout",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusUnsupportedMediaType:  "unsupported_type",
	http.StatusTooManyRequests:       "limited",
	http.StatusServiceUnavailable:    "unavailable",
}
