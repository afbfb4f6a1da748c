package service

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
)

// Of HTTP/2's frames (RFC 9113, sections 4.1, 6.4 and 7).
const (
	frameHeader     = 9 // bytes: length in 3, type, flags, stream in 4
	frameType       = 3 // where the type stands
	frameRSTStream  = 3
	internalError   = 2
	enhanceYourCalm = 11
)

// resets corrects what HTTP/2 tells a client that was too slow. When a write's deadline passes, net/http resets the stream
// with INTERNAL_ERROR; nothing else can be sent on it, since trailers come behind the data that the client does not take. By
// the gRPC specification that would be the status INTERNAL, as if the server were broken, whereas ENHANCE_YOUR_CALM is
// RESOURCE_EXHAUSTED. So, while a bounded write is under way or has just failed, that code is put in the place of the other.
//
// It follows the frames in what a connection writes, at the cost of a look at each frame's header. Save for bounded, it belongs
// to the goroutine that writes.
type resets struct {
	bounded atomic.Int32 // writes with a deadline on the connection that are under way, or failed and not told yet

	begun  bool
	http2  bool              // known when begun
	header [frameHeader]byte // of the frame that is being written
	have   int               // bytes of header
	left   int               // bytes that its payload still has
}

// correct returns p, or a copy of it with other codes. Calls must have all that is written, in order.
func (r *resets) correct(p []byte) []byte {
	if !r.begun && len(p) > 0 {
		r.begun, r.http2 = true, p[0] != 'H' // an answer of HTTP/1 begins with its name, HTTP/2 with the length of SETTINGS
	}
	if !r.http2 {
		return p
	}
	out := p
	for at := 0; at < len(p); {
		if r.have < frameHeader {
			n := copy(r.header[r.have:], p[at:])
			r.have += n
			at += n
			if r.have == frameHeader {
				r.left = int(binary.BigEndian.Uint32(r.header[:4]) >> 8)
			}
		}
		n := min(r.left, len(p)-at)
		at += n
		r.left -= n
		if r.have == frameHeader && r.left == 0 {
			r.have = 0
			// The code is the payload's 4 bytes; those of net/http are small, so the last decides.
			if n > 0 && r.header[frameType] == frameRSTStream && p[at-1] == internalError && r.bounded.Load() > 0 {
				if &out[0] == &p[0] {
					out = bytes.Clone(p)
				}
				out[at-1] = enhanceYourCalm
				r.bounded.Add(-1)
			}
		}
	}
	return out
}
