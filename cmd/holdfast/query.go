package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// exporter is the exporter to ask, and how to show its answer.
type exporter struct {
	Exporter string `help:"Exporter to ask." default:"http://127.0.0.1:9100"`
	At       string `help:"Instant to answer for: Unix seconds or RFC 3339; now if it is not given." placeholder:"TIME"`
	JSON     bool   `name:"json" help:"Show the exporter's answer as it is."`
}

// top shows the first of the ranking.
type top struct {
	N int `name:"n" help:"How many holders." default:"10"`
	exporter
}

func (t *top) run(ctx context.Context, s *session) error {
	var answer struct {
		Holders []struct {
			Rank       int
			HolderID   string `json:"holder_id"`
			ScoreExact string `json:"score_exact"`
			RateExact  string `json:"rate_exact"`
			OpenHolds  int    `json:"open_holds"`
		}
	}
	return t.ask(ctx, s, "/top", url.Values{"n": {strconv.Itoa(t.N)}}, &answer, tabwriter.AlignRight, func(w io.Writer) {
		fmt.Fprintln(w, "rank\tscore (weight·s)\trate (1/s)\topen\t  holder")
		for _, h := range answer.Holders {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t  %s\n", h.Rank, h.ScoreExact, h.RateExact, h.OpenHolds, shown(h.HolderID))
		}
	})
}

// stats shows totals.
type stats struct {
	exporter
}

func (t *stats) run(ctx context.Context, s *session) error {
	var answer struct {
		Holders    uint64
		Holds      uint64
		OpenHolds  uint64            `json:"open_holds"`
		ScoreExact string            `json:"score_exact"`
		RateExact  string            `json:"rate_exact"`
		Refused    map[string]uint64 `json:"refused"`
		Duplicates uint64
	}
	return t.ask(ctx, s, "/stats", nil, &answer, 0, func(w io.Writer) {
		refused := uint64(0)
		for _, n := range answer.Refused {
			refused += n
		}
		fmt.Fprintf(w, "holders\t%d\n", answer.Holders)
		fmt.Fprintf(w, "holds\t%d\n", answer.Holds)
		fmt.Fprintf(w, "open holds\t%d\n", answer.OpenHolds)
		fmt.Fprintf(w, "total score (weight·s)\t%s\n", answer.ScoreExact)
		fmt.Fprintf(w, "total rate (1/s)\t%s\n", answer.RateExact)
		fmt.Fprintf(w, "events refused\t%d\n", refused)
		fmt.Fprintf(w, "duplicates skipped\t%d\n", answer.Duplicates)
	})
}

// holder shows one holder.
type holder struct {
	ID string `arg:"" name:"id" help:"The holder's id, as it stands in the events."`
	exporter
}

func (h *holder) run(ctx context.Context, s *session) error {
	var answer struct {
		HolderID   string `json:"holder_id"`
		Rank       *uint64
		ScoreExact string          `json:"score_exact"`
		RateExact  string          `json:"rate_exact"`
		RateUntil  json.RawMessage `json:"rate_until"`
		Holds      uint64
		OpenHolds  int `json:"open_holds"`
	}
	return h.ask(ctx, s, "/holders/"+url.PathEscape(h.ID), nil, &answer, 0, func(w io.Writer) {
		fmt.Fprintf(w, "holder\t%s\n", shown(answer.HolderID))
		if answer.Rank != nil {
			fmt.Fprintf(w, "rank\t%d\n", *answer.Rank)
		}
		fmt.Fprintf(w, "score (weight·s)\t%s\n", answer.ScoreExact)
		fmt.Fprintf(w, "rate (1/s)\t%s\n", answer.RateExact)
		fmt.Fprintf(w, "holds\t%d\n", answer.Holds)
		fmt.Fprintf(w, "open holds\t%d\n", answer.OpenHolds)
	})
}

// ask asks the exporter, and shows its answer as it is, or decoded as a table with the tabwriter's flags.
func (e *exporter) ask(ctx context.Context, s *session, path string, query url.Values, answer any, flags uint, table func(io.Writer)) error {
	if e.At != "" {
		if query == nil {
			query = url.Values{}
		}
		query.Set("at", e.At)
	}
	body, err := e.get(ctx, path, query)
	if err != nil {
		return err
	}
	if e.JSON {
		_, err := s.stdout.Write(append([]byte(strings.TrimRight(string(body), "\n")), '\n'))
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%s%s: not an exporter's answer: %w", e.Exporter, path, err)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', flags)
	table(w)
	return w.Flush()
}

// errNoHolder is what an exporter says of an id that nobody has.
var errNoHolder = errors.New("no such holder: it has not held anything, or has expired")

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// get returns the body of an answer, or what the exporter said against the question.
func (e *exporter) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	server := strings.TrimRight(e.Exporter, "/")
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	address := server + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("--exporter: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the exporter: %w (is it running? --exporter says where)", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the exporter: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return body, nil
	}
	var refusal struct {
		Error struct{ Field, Reason string }
	}
	if json.Unmarshal(body, &refusal) != nil || refusal.Error.Reason == "" {
		return nil, fmt.Errorf("%s: %s", address, response.Status)
	}
	switch field := refusal.Error.Field; {
	case response.StatusCode == http.StatusNotFound && field == "holder_id":
		return nil, errNoHolder
	case field == "at", field == "n":
		return nil, fmt.Errorf("--%s: %s", field, refusal.Error.Reason)
	}
	return nil, errors.New(refusal.Error.Reason)
}

// await waits until the exporter serves so many holds.
func (e *exporter) await(ctx context.Context, holds int64) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var answer struct{ Holds int64 }
		body, err := e.get(ctx, "/stats", nil)
		if err == nil {
			err = json.Unmarshal(body, &answer)
		}
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

// shown is an id on a terminal: as it is, or quoted if it has characters that are not to be printed.
func shown(id string) string {
	if quoted := strconv.Quote(id); quoted != `"`+id+`"` {
		return quoted
	}
	return id
}
