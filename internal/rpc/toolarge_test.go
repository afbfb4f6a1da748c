package rpc

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"pgregory.net/rapid"
)

// envelope is a message with its prefix.
func envelope(size int) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(size))
	for range size {
		b = append(b, byte(rand.IntN(256)))
	}
	return b
}

// bodyOf is what a call's handler reads of a body, so many bytes at a time at most.
func bodyOf(contentType string, body io.Reader, most int) ([]byte, error) {
	r := &http.Request{Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(body)}
	limited := limitBody(r)
	var got []byte
	for p := make([]byte, most); ; {
		n, err := limited.Read(p)
		if got = append(got, p[:n]...); err != nil {
			if again, then := limited.Read(p); again != 0 || !errors.Is(then, err) {
				return got, errors.New("it goes on after its end")
			}
			if err == io.EOF {
				err = nil
			}
			return got, err
		}
	}
}

func expectTooLarge(t *testing.T, what string, err error) {
	t.Helper()
	e, ok := errors.AsType[*connect.Error](err)
	if !ok || e.Code() != connect.CodeResourceExhausted || len(e.Details()) != 1 {
		t.Fatalf("%s: %v", what, err)
	}
	detail, err := e.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	if info, ok := detail.(*errdetails.ErrorInfo); !ok || info.Reason != "MESSAGE_TOO_LARGE" || info.Metadata["limit"] != "1048576" {
		t.Errorf("%s: the detail is %v", what, detail)
	}
}

// A body within the limit is read as it is, however it comes and wherever it breaks off.
func TestBodiesWithinTheLimit(t *testing.T) {
	broken := errors.New("broken")
	rapid.Check(t, func(t *rapid.T) {
		var body []byte
		for range rapid.IntRange(0, 4).Draw(t, "messages") {
			body = append(body, envelope(rapid.IntRange(0, 300).Draw(t, "size"))...)
		}
		body = body[:len(body)-rapid.IntRange(0, min(len(body), 10)).Draw(t, "cut off")]
		end := rapid.SampledFrom([]error{io.EOF, broken}).Draw(t, "end")
		var from io.Reader = io.MultiReader(bytes.NewReader(body), iotest.ErrReader(end))
		from = rapid.SampledFrom([]func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader, func(r io.Reader) io.Reader { return r }}).Draw(t, "reader")(from)
		kind := rapid.SampledFrom([]string{"application/grpc", "application/grpc-web+proto", "application/connect+json", "application/json"}).Draw(t, "type")
		got, err := bodyOf(kind, from, rapid.IntRange(1, 40).Draw(t, "at a time"))
		if !bytes.Equal(got, body) || (end == broken) != errors.Is(err, broken) || end == io.EOF && err != nil {
			t.Fatalf("%d of %d bytes, %v", len(got), len(body), err)
		}
	})
}

func TestBodiesBeyondTheLimit(t *testing.T) {
	small := envelope(100)
	for what, test := range map[string]struct {
		kind string
		body []byte
		want int // bytes that are read before
	}{
		"an envelope":               {"application/grpc+proto", envelope(MaxMessage + 1), 0},
		"a second envelope":         {"application/grpc-web", append(bytes.Clone(small), envelope(MaxMessage+1)...), len(small)},
		"an envelope that is short": {"application/connect+proto", []byte{0, 0xff, 0xff, 0xff, 0xff, 1, 2}, 0},
		"a whole body":              {"application/proto", make([]byte, MaxMessage+1), MaxMessage},
	} {
		for _, most := range []int{3, 512, 2 << 20} {
			got, err := bodyOf(test.kind, bytes.NewReader(test.body), most)
			expectTooLarge(t, what, err)
			if len(got) > test.want {
				t.Errorf("%s: %d bytes are passed on", what, len(got))
			}
		}
	}
	for kind, body := range map[string][]byte{"application/grpc": envelope(MaxMessage), "application/json": make([]byte, MaxMessage)} {
		if got, err := bodyOf(kind, bytes.NewReader(body), 1<<16); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s, exactly the limit: %d bytes, %v", kind, len(got), err)
		}
	}
}

func TestDecompressedBeyondTheLimit(t *testing.T) {
	packed := func(size int) io.Reader {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	var g limitedGzip // one after the other, as connect uses it
	for range 2 {
		if err := g.Reset(packed(MaxMessage + 1)); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(&g)
		expectTooLarge(t, "a bomb", err)
		if err := g.Reset(packed(MaxMessage)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(&g); err != nil || len(got) != MaxMessage {
			t.Errorf("exactly the limit: %d bytes, %v", len(got), err)
		}
	}
}

// FuzzEnvelopes reads any bytes as the body of a call.
func FuzzEnvelopes(f *testing.F) {
	f.Add(envelope(10), 3)
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff}, 5)
	f.Add([]byte{1, 0, 0}, 1)
	f.Add(append(envelope(0), 0, 0, 16, 0, 1), 7)
	f.Fuzz(func(t *testing.T, body []byte, most int) {
		got, err := bodyOf("application/grpc", bytes.NewReader(body), 1+max(0, most)%100)
		if err == nil && !bytes.Equal(got, body) || !bytes.HasPrefix(body, got) {
			t.Errorf("read %x of %x, %v", got, body, err)
		}
	})
}
