package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/service"
)

// scripted is an exporter that answers what a test says.
type scripted struct {
	*httptest.Server
	answers map[string]any // by path; what is missing is a 404
}

func newScripted(t *testing.T, answers map[string]any) *scripted {
	s := &scripted{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch answer := s.answers[r.URL.Path].(type) {
		case nil:
			w.WriteHeader(http.StatusNotFound)
		case int:
			w.WriteHeader(answer)
			_, _ = w.Write([]byte(`{"error":{"reason":"not \u001b[2J yet"}}`))
		default:
			_ = json.NewEncoder(w).Encode(answer)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

type object = map[string]any

func rankingOf(ids ...string) object {
	var holders []object
	for i, id := range ids {
		holders = append(holders, object{"rank": i + 1, "holder_id": id, "score_exact": "10", "rate_exact": "0", "open_holds": 0})
	}
	return object{"at": 1767225600, "of": len(ids), "holders": holders}
}

func totalsOf(logs ...object) object {
	return object{"at": 1767225600, "holders": 2, "holds": 2, "score_exact": "20", "rate_exact": "0", "known_since": 0, "logs": logs}
}

// asked runs a command in this process.
func asked(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestAnswersThatAreBehindSaySo(t *testing.T) {
	log := func(lag any, age float64, withheld int) object {
		return object{"stream": "HOLDS", "lag": lag, "age_seconds": age, "withheld": withheld}
	}
	for name, test := range map[string]struct {
		log      object
		pipeline any
		want     string
	}{
		"up to date":       {log(0, 1, 0), object{"workers": []object{}}, ""},
		"a little behind":  {log(500, 1, 0), object{"workers": []object{}}, ""},
		"behind":           {log(500, 61, 0), object{"workers": []object{{}}}, "behind: 500 messages of stream HOLDS not folded yet, and nothing has moved for 1m1s\n"},
		"no aggregator":    {log(1, 10, 0), object{"workers": []object{}}, "behind: 1 message of stream HOLDS not folded yet, and nothing has moved for 10s\nno aggregator is running: start one or more\n"},
		"nobody knows":     {log(1, 10, 0), object{"workers": nil}, "behind: 1 message of stream HOLDS not folded yet, and nothing has moved for 10s\n"},
		"an old exporter":  {log(1, 10, 0), nil, "behind: 1 message of stream HOLDS not folded yet, and nothing has moved for 10s\n"},
		"cut off":          {log(0, 75, 0), object{"problems": []string{"view.connection: \x1bgone"}}, "old: what is known of stream HOLDS is as of 1m15s ago\nview.connection: \\x1bgone\n"},
		"torn":             {log(0, 0, 2), nil, "incomplete: 2 partitions of stream HOLDS shown as before, since what came last does not fit together\n"},
		"many causes":      {log(0, 75, 0), object{"problems": []string{"view.holds: a\nb"}}, "old: what is known of stream HOLDS is as of 1m15s ago\nview.holds: a\nb\n"},
		"lag is not known": {log(nil, 1, 0), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t, map[string]any{"/top": rankingOf("a"), "/stats": totalsOf(test.log), "/pipeline": test.pipeline})
			code, stdout, stderr := asked(t, "top", "--exporter", s.URL)
			if diff := cmp.Diff(test.want, stderr); code != 0 || diff != "" || !strings.HasSuffix(stdout, " a\n") {
				t.Errorf("%d %q (-want +got):\n%s", code, stdout, diff)
			}
			code, stdout, stderr = asked(t, "top", "--json", "--exporter", s.URL)
			if diff := cmp.Diff(test.want, stderr); code != 0 || diff != "" || strings.Count(stdout, "\n") != 1 || !json.Valid([]byte(stdout)) {
				t.Errorf("as JSON: %d %q (-want +got):\n%s", code, stdout, diff)
			}
		})
	}
}

// A server that takes a question and keeps silent, or stops in the middle, is told from one that is not there.
func TestServersThatKeepSilent(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stats" {
			_, _ = w.Write([]byte("{"))
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}))
	defer s.Close()
	for path, want := range map[string]string{
		"/top":   `^ask the exporter: ` + s.URL + `/top\?n=1 has not answered in \d+ms \(is it running\? --exporter says where\)$`,
		"/stats": `^ask the exporter: after \d+ms the answer of ` + s.URL + `/stats\?n=1 is not whole$`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := (&exporter{Exporter: s.URL}).get(ctx, path, url.Values{"n": {"1"}})
		cancel()
		if err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// The totals above a ranking that is watched are those of its instant, even if the state forgets that in between, once.
func TestWatchAsksForOneInstant(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		switch {
		case r.URL.Path == "/top":
			ranking := rankingOf("a")
			ranking["at"] = json.Number(fmt.Sprintf("17672256%02d.25", len(asked)))
			_ = json.NewEncoder(w).Encode(ranking)
		case len(asked) == 2:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":{"field":"at","reason":"forgotten"}}`))
		default:
			_ = json.NewEncoder(w).Encode(totalsOf())
		}
	}))
	defer s.Close()
	watched := &top{exporter: exporter{Exporter: s.URL}}
	if _, err := watched.frame(t.Context(), url.Values{"n": {"1"}}, time.Second, &columns{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"/top?n=1", "/stats?at=2026-01-01T00%3A00%3A01.25Z", "/top?n=1", "/stats?at=2026-01-01T00%3A00%3A03.25Z"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Any other trouble with the totals ends it at once.
func TestWatchAsksAgainForAnInstantAlone(t *testing.T) {
	stats := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/top" {
			_ = json.NewEncoder(w).Encode(rankingOf("a"))
			return
		}
		stats++
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":{"reason":"not loaded"}}`))
	}))
	defer s.Close()
	code, _, stderr := asked(t, "top", "--watch", "--exporter", s.URL)
	if code != exitNotReady || stats != 1 {
		t.Errorf("exit code %d after %d questions for totals, %q", code, stats, stderr)
	}
}

// The password of an exporter's address is not shown, whatever comes of asking.
func TestPasswordIsNotShown(t *testing.T) {
	s := newScripted(t, map[string]any{"/top": rankingOf("a"), "/stats": totalsOf(), "/poh": "no object"})
	address := strings.Replace(s.URL, "://", "://user:secret@", 1)
	expect := func(what, said, want string) {
		if strings.Contains(said, "secret") || !strings.Contains(said, want) {
			t.Errorf("%s: %q, want %q in it", what, said, want)
		}
	}
	for _, args := range [][]string{{"holder", "x"}, {"poh"}} {
		_, _, stderr := asked(t, append(args, "--exporter", address)...)
		expect(args[0], stderr, "user:xxxxx@")
	}
	for _, wrong := range []string{"ftp://user:secret@h", "http://user:secret%@h", "user:secret@h?q"} {
		code, _, stderr := asked(t, "top", "--exporter", wrong)
		if expect(wrong, stderr, "--exporter="); code != service.ExitUsage {
			t.Errorf("%s: exit code %d", wrong, code)
		}
	}
	watched := &top{exporter: exporter{Exporter: address}}
	lines, err := watched.frame(t.Context(), url.Values{"n": {"1"}}, time.Second, &columns{})
	if err != nil {
		t.Fatal(err)
	}
	expect("the head", lines[0].text, "user:xxxxx@")
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stats" {
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}))
	defer silent.Close()
	for _, path := range []string{"/top", "/stats"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := (&exporter{Exporter: strings.Replace(silent.URL, "://", "://user:secret@", 1)}).get(ctx, path, nil)
		cancel()
		expect(path, fmt.Sprint(err), "user:xxxxx@")
	}
}

func TestExitCodesOfQuestions(t *testing.T) {
	s := newScripted(t, map[string]any{"/top": http.StatusServiceUnavailable, "/poh": http.StatusInternalServerError, "/stats": "no object"})
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"top", "--exporter", s.URL}, exitNotReady, `the exporter is not ready: not \x1b[2J yet`},
		{[]string{"top", "--watch", "--exporter", s.URL}, exitNotReady, "not ready"},
		{[]string{"top", "--exporter", gone.URL}, exitUnreachable, "is it running?"},
		{[]string{"poh", "--exporter", s.URL}, service.ExitFailure, "not "},
		{[]string{"stats", "--exporter", s.URL}, service.ExitFailure, "not an exporter's answer"},
		{[]string{"holder", "x", "--exporter", s.URL}, service.ExitFailure, "404 Not Found: is that an exporter?"}, // no exporter's word
		{[]string{"top", "--watch", "--interval", "10ms"}, service.ExitUsage, "--interval=10ms: it is 100ms or more"},
	} {
		code, stdout, stderr := asked(t, test.args...)
		if code != test.code || !strings.Contains(stderr, test.says) || stdout != "" {
			t.Errorf("%v: exit code %d, %q; want %d and %q", test.args, code, stderr, test.code, test.says)
		}
	}
}

func TestWatchWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errs bytes.Buffer
		s := &screen{out: &out}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		start, n := time.Now(), 0
		err := s.watch(ctx, &errs, time.Minute, func(context.Context) ([]line, error) {
			switch n++; n {
			case 2:
				return nil, errors.New("gone")
			case 4:
				stop()
				return nil, ctx.Err()
			}
			return []line{{text: fmt.Sprint("frame ", n), style: strong}}, nil
		})
		if err != nil || out.String() != "frame 1\nframe 3\n" || errs.String() != "holdfast: gone\n" || time.Since(start) != 3*time.Minute {
			t.Errorf("%v, %q, %q after %v", err, out.String(), errs.String(), time.Since(start))
		}
	})
}

// The first frame is not waited for without end either.
func TestWatchBoundsTheFirstFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := (&screen{}).watch(t.Context(), nil, time.Minute, func(ctx context.Context) ([]line, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Hour):
				return nil, errors.New("no end")
			}
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != frameTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestWatchAsJSON(t *testing.T) {
	s := newScripted(t, map[string]any{"/top": rankingOf("a"), "/stats": totalsOf()})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	written := 0
	out := writerFunc(func(p []byte) (int, error) {
		if len(p) > 0 {
			written++
		}
		if written == 3 {
			stop()
		}
		return len(p), nil
	})
	var lines bytes.Buffer
	var errs bytes.Buffer
	code := run(ctx, []string{"top", "--watch", "--json", "--interval", "100ms", "--exporter", s.URL}, teeTo(&lines, out), &errs)
	got := strings.Split(strings.TrimRight(lines.String(), "\n"), "\n")
	if code != 0 || errs.Len() > 0 || len(got) != 3 || got[0] != got[2] || !json.Valid([]byte(got[0])) {
		t.Errorf("exit code %d, %s, %q", code, &errs, got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func teeTo(b *bytes.Buffer, w writerFunc) writerFunc {
	return func(p []byte) (int, error) {
		b.Write(p)
		return w(p)
	}
}
