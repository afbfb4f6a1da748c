package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/pkg/events"
)

// exporter is the exporter to ask.
type exporter struct {
	Exporter string `help:"Exporter to ask." default:"http://127.0.0.1:9100"`
	JSON     bool   `name:"json" help:"Show the exporter's answer as it is, on one line."`
}

// Validate is called when the flags are parsed.
func (e exporter) Validate() error {
	u, err := url.Parse(e.server())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("--exporter=%q: it is no address such as http://127.0.0.1:9100 (http or https, and no query)", e.shown())
	}
	return nil
}

// server is the exporter's URL.
func (e exporter) server() string {
	server := e.Exporter
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	return strings.TrimRight(server, "/")
}

// shown is the exporter's URL without its password.
func (e exporter) shown() string {
	if u, err := url.Parse(e.server()); err == nil && u.Host != "" {
		return u.Redacted()
	}
	return e.Exporter[strings.LastIndexByte(e.Exporter, '@')+1:]
}

// instantFlag is the instant to ask for.
type instantFlag struct {
	At string `help:"Instant to answer for: Unix seconds or RFC 3339; now if it is not given." placeholder:"TIME" type:"filled"`
}

// Validate is called when the flags are parsed.
func (f instantFlag) Validate() error {
	if f.At == "" {
		return nil
	}
	if _, err := events.ParseTime(f.At); err != nil {
		return fmt.Errorf("--at: %w", err)
	}
	return nil
}

// validateN checks a number of lines to ask for.
func validateN(n int) error {
	if n < 1 || n > export.MaxTop {
		return fmt.Errorf("--n=%d: it is 1 to %d", n, export.MaxTop)
	}
	return nil
}

// query adds the instant to a question's parameters.
func (f instantFlag) query(parameters url.Values) url.Values {
	if f.At != "" {
		parameters.Set("at", f.At)
	}
	return parameters
}

// What an exporter may have against a question; each but the last has an exit code of its own.
var (
	errNoHolder    = errors.New("no such holder: it has not held anything, or has expired (an id is matched exactly)")
	errUnreachable = errors.New("is it running? --exporter says where")
	errNotReady    = errors.New("the exporter is not ready")
	errInstant     = errors.New("--at") // what is wrong with the instant follows, such as that it is forgotten
)

const (
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 20
	// answerTimeout bounds the wait for an answer.
	answerTimeout = 30 * time.Second
)

// show asks, and shows the answer as it is, or as the lines that table makes of it. How far that is behind is for standard error.
func (e *exporter) show(ctx context.Context, s *session, path string, query url.Values, answer any, table func() []line) error {
	body, err := e.get(ctx, path, query)
	if err != nil {
		return err
	}
	if e.JSON {
		err = printAnswer(s.stdout, body)
	} else if err = e.decode(path, body, answer); err == nil {
		err = s.screen.print(table())
	}
	if err != nil {
		return err
	}
	return s.errors.print(e.notices(ctx))
}

// printAnswer prints an answer as it is.
func printAnswer(w io.Writer, body []byte) error {
	_, err := w.Write(append([]byte(strings.TrimRight(string(body), "\n")), '\n'))
	return err
}

func (e *exporter) decode(path string, body []byte, answer any) error {
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%s%s: not an exporter's answer: %w", e.shown(), path, err)
	}
	return nil
}

// read asks and decodes the answer.
func (e *exporter) read(ctx context.Context, path string, query url.Values, answer any) error {
	body, err := e.get(ctx, path, query)
	if err != nil {
		return err
	}
	return e.decode(path, body, answer)
}

// get returns the body of an answer, or what the exporter said against the question.
func (e *exporter) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	address := e.server() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("--exporter: %w", err)
	}
	address = request.URL.Redacted() // for errors
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("ask the exporter: %s has not answered in %v (%w)", address, time.Since(began).Round(time.Millisecond), errUnreachable)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the exporter: %w (%w)", err, errUnreachable)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("ask the exporter: after %v the answer of %s is not whole", time.Since(began).Round(time.Millisecond), address)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the exporter: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return body, nil
	}
	return nil, refusal(address, response, body)
}

// refusal is what an exporter said against a question.
func refusal(address string, response *http.Response, body []byte) error {
	var said struct {
		Error struct{ Field, Reason string }
	}
	known := json.Unmarshal(body, &said) == nil && said.Error.Reason != ""
	if !known || response.StatusCode == http.StatusNotFound && said.Error.Field != "holder_id" { // an exporter has whatever is asked for
		return fmt.Errorf("%s: %s: is that an exporter? --exporter says where it is", address, response.Status)
	}
	reason := escaped(said.Error.Reason)
	switch field := said.Error.Field; {
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w; what was published a moment ago may not be folded yet", errNoHolder)
	case response.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s", errNotReady, reason)
	case field == "at":
		return fmt.Errorf("%w: %s", errInstant, reason)
	case field == "n":
		return fmt.Errorf("--n: %s", reason)
	}
	return errors.New(reason)
}

// await waits until the exporter serves so many holds.
func (e *exporter) await(ctx context.Context, holds int64) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var answer struct{ Holds int64 }
		err := e.read(ctx, "/stats", nil, &answer)
		switch {
		case err == nil && answer.Holds >= holds:
			return nil
		case time.Now().After(deadline):
			return errors.Join(fmt.Errorf("after %s the exporter serves %d of %d holds", patience, answer.Holds, holds), err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
