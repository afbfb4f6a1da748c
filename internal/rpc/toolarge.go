package rpc

import (
	"compress/gzip"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"

	"connectrpc.com/connect"
)

// ReasonTooLarge is the reason of the error that a message over MaxMessage is answered with. Its metadata has the limit in bytes.
const ReasonTooLarge = "MESSAGE_TOO_LARGE"

// discardLimit is how many bytes of a message that is too large are read and forgotten, so that its sender comes to read the answer.
const discardLimit = 4 << 20

// tooLarge says that a message is too large. That connect would say itself, but without details, and no interceptor sees it; what
// reading a body fails with it passes on as it is, if that is an error of its own kind.
func tooLarge(format string, args ...any) *connect.Error {
	limit := strconv.Itoa(MaxMessage)
	args = append(args, limit)
	return Fail(connect.CodeResourceExhausted, ReasonTooLarge, map[string]string{"limit": limit}, format+"; at most it is %s bytes: send less at a time", args...)
}

// limitBody bounds the messages in the body of a call.
func limitBody(r *http.Request) io.ReadCloser {
	kind := r.Header.Get("Content-Type")
	if strings.HasPrefix(kind, "application/grpc") || strings.HasPrefix(kind, "application/connect+") {
		return &envelopes{ReadCloser: r.Body}
	}
	return &wholeBody{ReadCloser: r.Body}
}

// wholeBody is the body of a call that is one message.
type wholeBody struct {
	io.ReadCloser
	read int64
	err  error // the end, once it is known
}

// Read implements [io.Reader].
func (b *wholeBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	if b.read += int64(n); b.read > MaxMessage {
		_, _ = io.CopyN(io.Discard, b.ReadCloser, discardLimit) // nothing that could go wrong would change the answer
		b.err = tooLarge("the message is longer than is taken")
		return 0, b.err
	}
	return n, err
}

// envelopes is the body of a call whose messages each stand behind a byte of flags and their length in four.
type envelopes struct {
	io.ReadCloser
	prefix      [5]byte
	have, given int   // bytes of the prefix that were read, and passed on
	left        int64 // bytes of the present message
	err         error // the end, once it is known
}

// Read implements [io.Reader].
func (e *envelopes) Read(p []byte) (n int, err error) {
	if e.left > 0 {
		n, err = e.ReadCloser.Read(p[:min(int64(len(p)), e.left)])
		e.left -= int64(n)
		return n, err
	}
	if e.given == e.have && e.err == nil {
		e.next()
	}
	if e.given == e.have {
		return 0, e.err
	}
	n = copy(p, e.prefix[e.given:e.have])
	if e.given += n; e.given == len(e.prefix) {
		e.left, e.have, e.given = e.size(), 0, 0
	}
	return n, nil
}

// next reads a prefix. A body that breaks off in it is connect's to judge.
func (e *envelopes) next() {
	e.given = 0
	if e.have, e.err = io.ReadFull(e.ReadCloser, e.prefix[:]); e.err == io.ErrUnexpectedEOF {
		e.err = io.EOF
	}
	if size := e.size(); e.have == len(e.prefix) && size > MaxMessage {
		_, _ = io.CopyN(io.Discard, e.ReadCloser, min(size, discardLimit)) // nothing that could go wrong would change the answer
		e.have, e.err = 0, tooLarge("a message has %d bytes", size)
	}
}

// size is that of the message behind the prefix.
func (e *envelopes) size() int64 { return int64(binary.BigEndian.Uint32(e.prefix[1:])) }

// limitedGzip decompresses a message, as long as that is not too large.
type limitedGzip struct {
	gzip.Reader
	read int64
}

// Reset implements [connect.Decompressor].
func (g *limitedGzip) Reset(from io.Reader) error {
	g.read = 0
	return g.Reader.Reset(from)
}

// Read implements [io.Reader].
func (g *limitedGzip) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if g.read += int64(n); g.read > MaxMessage {
		return 0, tooLarge("the message is longer than is taken once it is decompressed")
	}
	return n, err
}
