package export_test

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/export"
)

// The page is one document that takes nothing from elsewhere, and its policy allows its own style and script alone.
func TestPage(t *testing.T) {
	t.Parallel()
	r := run(t, nil, export.Options{}) // it is there without NATS
	response, body := r.do("GET", "/")
	page := string(body)
	header := response.Header
	if response.StatusCode != 200 || header.Get("Content-Type") != "text/html; charset=utf-8" || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("ETag") == "" {
		t.Fatalf("%d %v", response.StatusCode, header)
	}
	policy := header.Get("Content-Security-Policy")
	for directive, element := range map[string]string{"style-src": "style", "script-src": "script"} {
		found := regexp.MustCompile(`(?s)<`+element+`[^>]*>(.*?)</`+element+`>`).FindAllStringSubmatch(page, -1)
		if len(found) != 1 || len(found[0][1]) < 1000 {
			t.Fatalf("%d elements %s", len(found), element)
		}
		hash := sha256.Sum256([]byte(found[0][1]))
		if want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "';"; !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(page, "{{") {
		t.Errorf("policy %q, or a place that was not filled", policy)
	}
	for what, pattern := range map[string]string{
		"an inline event handler": `<[^>]*\son[a-z]+=`, "an inline style": `<[^>]*\sstyle=`, "an address elsewhere": `(src|href)="(https?:)?//`, "an import": `@import|\bimport[ (]`,
		"text that is read as HTML": `innerHTML|outerHTML|insertAdjacentHTML|document\.write`,
	} {
		if found := regexp.MustCompile(pattern).FindString(page); found != "" {
			t.Errorf("the page has %s: %s", what, found)
		}
	}

	again, body := r.ask("GET", "/", "If-None-Match", header.Get("ETag"))
	if again.StatusCode != 304 || len(body) != 0 {
		t.Errorf("asked again: %d with %d bytes", again.StatusCode, len(body))
	}
}
