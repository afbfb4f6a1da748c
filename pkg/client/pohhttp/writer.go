package pohhttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// writer notes the status of an answer. It is of the goroutine that answers, as every ResponseWriter.
type writer struct {
	http.ResponseWriter
	status int // the final one; 0 until it is known
}

// final returns the status of an answer whose handler has returned.
func (w *writer) final() int {
	if w.status == 0 {
		return http.StatusOK // which net/http sends for a handler that sent nothing
	}
	return w.status
}

func (w *writer) begin(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// WriteHeader implements [http.ResponseWriter].
func (w *writer) WriteHeader(status int) {
	w.ResponseWriter.WriteHeader(status) // which panics if there is no such status
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.begin(status) // the others of 1xx are followed by the final one
	}
}

// Write implements [http.ResponseWriter].
func (w *writer) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// WriteString implements [io.StringWriter], without copying if the server's does.
func (w *writer) WriteString(s string) (int, error) {
	w.begin(http.StatusOK)
	return io.WriteString(w.ResponseWriter, s)
}

// ReadFrom implements [io.ReaderFrom], by which the server has the operating system copy files.
func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	w.begin(http.StatusOK)
	if from, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return from.ReadFrom(src)
	}
	return io.Copy(w.ResponseWriter, src)
}

// Unwrap lets [http.ResponseController] reach the server's.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// The rest a ResponseWriter has or has not, and handlers ask it which: so able makes one that has just what the server's has.
type (
	flusher  struct{ w *writer }
	hijacker struct{ w *writer }
	pusher   struct{ w *writer }
)

func (f flusher) Flush() { _ = f.FlushError() }

// FlushError is what [http.ResponseController] asks for first.
func (f flusher) FlushError() error {
	f.w.begin(http.StatusOK)
	return http.NewResponseController(f.w.ResponseWriter).Flush()
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.w.ResponseWriter).Hijack()
	if err == nil {
		h.w.begin(http.StatusSwitchingProtocols)
	}
	return conn, buffered, err
}

func (p pusher) Push(target string, o *http.PushOptions) error {
	return find[http.Pusher](p.w.ResponseWriter).Push(target, o)
}

// able returns the writer with what the server's has.
func (w *writer) able() http.ResponseWriter {
	f, h, p := flusher{w}, hijacker{w}, pusher{w}
	canFlush := find[http.Flusher](w.ResponseWriter) != nil || find[interface{ FlushError() error }](w.ResponseWriter) != nil
	canHijack, canPush := find[http.Hijacker](w.ResponseWriter) != nil, find[http.Pusher](w.ResponseWriter) != nil
	switch {
	case canFlush && canHijack && canPush:
		return struct {
			*writer
			flusher
			hijacker
			pusher
		}{w, f, h, p}
	case canFlush && canHijack:
		return struct {
			*writer
			flusher
			hijacker
		}{w, f, h}
	case canFlush && canPush:
		return struct {
			*writer
			flusher
			pusher
		}{w, f, p}
	case canHijack && canPush:
		return struct {
			*writer
			hijacker
			pusher
		}{w, h, p}
	case canFlush:
		return struct {
			*writer
			flusher
		}{w, f}
	case canHijack:
		return struct {
			*writer
			hijacker
		}{w, h}
	case canPush:
		return struct {
			*writer
			pusher
		}{w, p}
	}
	return w
}

// find returns what w can do, or a writer that it wraps.
func find[T any](w http.ResponseWriter) (found T) {
	for {
		if found, ok := w.(T); ok {
			return found
		}
		wrapping, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return found
		}
		w = wrapping.Unwrap()
	}
}
