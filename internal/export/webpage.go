package export

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
)

// The page is one document: index.html with the style and the scripts in it, so that a browser that has it has all of it,
// of one version. It asks this exporter's JSON and nothing else.
//
//go:embed page/index.html page/style.css page/*.js
var pageFiles embed.FS

// pageScripts are the parts of the page's one script, in order: later ones use what earlier ones define.
var pageScripts = []string{"page/exact.js", "page/words.js", "page/link.js", "page/ranking.js", "page/chart.js", "page/holder.js", "page/poh.js", "page/pipeline.js", "page/page.js"}

// webpage is the document and what goes with it.
type webpage struct {
	document string
	policy   string // the Content-Security-Policy
	tag      string // the ETag
}

var thePage = assemblePage()

// assemblePage puts the style and the scripts in the places that index.html marks, and allows these two alone by their
// hashes: whatever else might come to stand in the document is neither run nor shown, and nothing is sent elsewhere.
func assemblePage() webpage {
	read := func(name string) string {
		b, err := pageFiles.ReadFile(name)
		if err != nil {
			panic("export: " + err.Error())
		}
		return string(b)
	}
	style := read("page/style.css")
	var script strings.Builder
	for _, name := range pageScripts {
		script.WriteString(read(name))
	}
	document := strings.NewReplacer("{{style}}", style, "{{script}}", script.String()).Replace(read("page/index.html"))
	tag := sha256.Sum256([]byte(document))
	return webpage{
		document: document,
		policy: "default-src 'none'; connect-src 'self'; img-src data:; style-src '" + sourceHash(style) + "'; script-src '" + sourceHash(script.String()) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
		tag: `"` + hex.EncodeToString(tag[:16]) + `"`,
	}
}

// sourceHash is a source as a Content-Security-Policy names it.
func sourceHash(source string) string {
	hash := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(hash[:])
}

func servePage(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", thePage.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // ask each time whether it is still this one
	h.Set("ETag", thePage.tag)
	if r.Header.Get("If-None-Match") == thePage.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write([]byte(thePage.document)) // fails only if the client has gone
}
