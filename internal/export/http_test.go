package export_test

import (
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/export"
)

func TestRequestsThatHaveNoAnswer(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1))
	w.flush()
	r := started(t, w, export.Options{})
	for _, test := range []struct {
		method, path string
		status       int
		field        string
		reason       string
	}{
		{"GET", "/top?n=0", 400, "n", "1 to 10000"},
		{"GET", "/top?n=10001", 400, "n", "1 to 10000"},
		{"GET", "/top?n=-1", 400, "n", "1 to 10000"},
		{"GET", "/top?n=1.5", 400, "n", "1 to 10000"},
		{"GET", "/top?n=", 400, "n", "1 to 10000"},
		{"GET", "/top?n=99999999999999999999", 400, "n", "1 to 10000"},
		{"GET", "/top?n=1&n=2", 400, "n", "more than once"},
		{"GET", "/top?at=", 400, "at", "empty"},
		{"GET", "/top?at=yesterday", 400, "at", "RFC 3339"},
		{"GET", "/top?at=-1", 400, "at", "negative"},
		{"GET", "/top?at=NaN", 400, "at", "not a decimal"},
		{"GET", "/top?at=253402300800", 400, "at", "9999"},
		{"GET", "/stats?at=1e400", 400, "at", "9999"},
		{"GET", "/stats?at=10000-01-01T00:00:00Z", 400, "at", "RFC 3339"},
		{"GET", "/stats?at=1700000000&at=1700000001", 400, "at", "more than once"},
		{"GET", "/stats?n=3", 400, "n", "no such parameter"},
		{"GET", "/stats?att=3", 400, "att", "no such parameter"},
		{"GET", "/top?a;b", 400, "query", "semicolon"},
		{"GET", "/top?at=%zz", 400, "query", "escape"},
		{"GET", "/holders/a?at=x", 400, "at", "RFC 3339"},
		{"GET", "/holders/", 400, "holder_id", "%2F"},
		{"GET", "/holders/a/b", 400, "holder_id", "%2F"},
		{"GET", "/holders/nobody", 404, "holder_id", "percent-encoded"},
		{"GET", "/holders/%FF%FE", 400, "holder_id", `"\xff\xfe" is not valid UTF-8`},
		{"GET", "/holders/" + strings.Repeat("%00", 1000), 400, "holder_id", "1000 bytes; at most 128 are permitted"},
		{"GET", "/holders/cafe%CC%81", 400, "holder_id", `"cafe\u0301" is not in Unicode's normal form C (NFC): write it as "caf\u00e9"`},
		{"GET", "/holders/caf%C3%A9", 404, "holder_id", "no such holder"},
		{"GET", "/holders", 400, "id", "missing"},
		{"GET", "/holders?id=", 400, "id", "missing"},
		{"GET", "/holders?id=cafe%CC%81", 400, "id", `write it as "caf\u00e9"`},
		{"GET", "/holders?id=%FF", 400, "id", "UTF-8"},
		{"GET", "/holders?id=a&id=b", 400, "id", "more than once"},
		{"GET", "/holders?id=nobody", 404, "holder_id", "not be folded yet"},
		{"GET", "/top?id=a", 400, "id", "no such parameter"},
		{"GET", "/pipeline?n=1", 400, "n", "there is none"},
		{"GET", "/top?page_token=x", 400, "page_token", "next_page_token"},
		{"GET", "/top?page_token=", 400, "page_token", "next_page_token"},
		{"GET", "/holders/a?page_token=x", 400, "page_token", "no such parameter"},
		{"GET", "/top/", 404, "", "nothing at this path"},
		{"GET", "//top", 404, "", "nothing at this path"},
		{"GET", "/./top", 404, "", "nothing at this path"},
		{"GET", "/favicon.ico", 404, "", "nothing at this path"},
		{"POST", "/top", 405, "", "GET or HEAD"},
		{"DELETE", "/holders/a", 405, "", "GET or HEAD"},
		{"PUT", "/metrics", 405, "", "GET or HEAD"},
		{"HEAD", "/top?n=0", 400, "", ""},
	} {
		e := r.fails(test.method, test.path, test.status)
		if e.Field != test.field || !strings.Contains(e.Reason, test.reason) {
			t.Errorf("%s %s: field %q, %q; want %q, … %s …", test.method, test.path, e.Field, e.Reason, test.field, test.reason)
		}
	}
	if response, _ := r.do("POST", "/top"); response.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("allowed: %q", response.Header.Get("Allow"))
	}
}

func TestInstantsAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1))
	w.flush()
	r := started(t, w, export.Options{})
	for _, at := range []string{
		"1700000100.25", "1700000100.2509", "1.70000010025e9", "2023-11-14T22:15:00.25Z", "2023-11-15T00:15:00.25+02:00", "2023-11-15T00:15:00.25%2B02:00",
	} {
		var top topAnswer
		r.get("/top?at="+at, &top)
		if top.At != "1700000100.25" || len(top.Holders) != 1 || top.Holders[0].ScoreExact != "100.25" {
			t.Errorf("at=%s: %+v", at, top)
		}
	}
}

func TestSmallPages(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	r := started(t, w, export.Options{})
	for path, want := range map[string]string{
		"/": "<!doctype html>", "/api": "/holders/ID?at=TIME", "/healthz": `{"status":"alive"}`, "/readyz": `"view.holds":"ok"`, "/metrics": "holdfast_build_info{",
	} {
		response, body := r.do("GET", path)
		if response.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s", path, response.StatusCode, body)
		}
		if head, body := r.do("HEAD", path); head.StatusCode != 200 || len(body) != 0 {
			t.Errorf("HEAD %s: %d %s", path, head.StatusCode, body)
		}
	}
	if !strings.Contains(r.log.String(), `"msg":"listening","component":"exporter","addr":"`+r.Addr()+`"`) {
		t.Errorf("the address is not logged:\n%s", r.log)
	}
	if _, body := r.do("GET", "/metrics"); !strings.Contains(string(body), `holdfast_exporter_http_requests_total{code="200",method="GET",route="/readyz"} 1`) {
		t.Errorf("its own requests are not counted:\n%s", body)
	}
}
