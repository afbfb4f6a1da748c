package page

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is a page in a browser of its own.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string // what the console says that is wrong; guarded by mu
}

// open opens a browser with a window of that size in pixels, and the page at that address in it. Before, it does what else
// is to be done.
func open(t *testing.T, width, height int64, address string, before ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v (on Debian: apt-get install chromium)", err)
	}
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), slices.Concat(chromedp.DefaultExecAllocatorOptions[:], []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
	})...)
	t.Cleanup(cancelAllocator)
	b := &tab{t: t}
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b.ctx = ctx
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	call(b, log.Enable, cdp.Empty{})
	b.do(append(before, chromedp.EmulateViewport(width, height), chromedp.Navigate(address))...)
	return b
}

// listen notes what a console would show in red: exceptions, errors, violations of the policy.
func (b *tab) listen(event any) {
	var said string
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Source == log.EntrySourceSecurity || e.Entry.Source == log.EntrySourceViolation {
			said = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		said = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			said += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			arguments, _ := json.Marshal(e.Args) // of what the browser has sent as JSON
			said = "console: " + string(arguments)
		}
	}
	if said != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.complaints = append(b.complaints, said)
	}
}

// quiet fails the test if the console has shown an error, save of questions that had no answer.
func (b *tab) quiet(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
complaints:
	for _, c := range b.complaints {
		for _, e := range expected {
			if strings.Contains(c, e) {
				continue complaints
			}
		}
		b.t.Errorf("the console says: %s", c)
	}
}

// do does what it is told.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// call sends a command of the debugging protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], parameters P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, parameters)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// eval evaluates an expression of JavaScript.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// text is the text of the first element that fits a selector; "" if there is none.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf(`document.querySelector(%q)?.textContent ?? ""`, selector))
}

// texts are the texts of all elements that fit a selector.
func (b *tab) texts(selector string) []string {
	b.t.Helper()
	return eval[[]string](b, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.textContent)`, selector))
}

// state waits until the page says that it is in a state: "Live", "Behind", "Disconnected".
func (b *tab) state(want string) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.t.Logf("the page says %q and %q; the console: %q", b.text("#state-text"), b.text("#banner"), b.complaints)
		}
	}()
	until(b.t, "the page says "+want, func() bool { return b.text("#state-text") == want })
}
