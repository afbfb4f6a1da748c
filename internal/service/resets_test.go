package service

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// Wherever the writes are cut, of the resets alone those with INTERNAL_ERROR get another code, and only one for each bounded
// write that is under way or has failed. What is handed in stays as it is.
func TestResetsCorrect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var written, want []byte
		bounded := rapid.Int32Range(0, 3).Draw(t, "bounded")
		left := bounded
		for range rapid.IntRange(1, 20).Draw(t, "frames") {
			kind := rapid.SampledFrom([]byte{0, 1, 3, 4, 8}).Draw(t, "type")
			if len(written) == 0 {
				kind = 4 // SETTINGS come first
			}
			payload := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 2, 3, 11}), 0, 40).Draw(t, "payload")
			if kind == frameRSTStream {
				payload = []byte{0, 0, 0, rapid.SampledFrom([]byte{0, 1, 2, 3, 8, 11}).Draw(t, "code")}
			}
			frame := append([]byte{0, 0, byte(len(payload)), kind, 0, 0, 0, 0, 5}, payload...)
			written = append(written, frame...)
			if kind == frameRSTStream && left > 0 && payload[3] == internalError {
				left--
				frame[len(frame)-1] = enhanceYourCalm
			}
			want = append(want, frame...)
		}
		var r resets
		r.bounded.Add(bounded)
		var got []byte
		for left := written; len(left) > 0; {
			n := rapid.IntRange(1, len(left)).Draw(t, "piece")
			before := bytes.Clone(left[:n])
			got = append(got, r.correct(left[:n])...)
			if !bytes.Equal(before, left[:n]) {
				t.Fatal("changed what was handed in")
			}
			left = left[n:]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("wrote %x\n got %x\nwant %x", written, got, want)
		}
	})
}

// HTTP/1 is passed on as it is, whatever it looks like.
func TestResetsLeaveHTTP1Alone(t *testing.T) {
	var r resets
	r.bounded.Add(1)
	for _, p := range []string{"HTTP/1.1 200 OK\r\n\r\n", "\x00\x00\x04\x03\x00\x00\x00\x00\x05\x00\x00\x00\x02"} {
		if got := r.correct([]byte(p)); string(got) != p {
			t.Errorf("%q became %q", p, got)
		}
	}
}
