package rpc

import (
	"errors"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonCodec is the JSON of Connect for people who read it: fields that are 0, false or empty are there, and a request with a
// field that does not exist is refused, since it is not answered as it was meant. Its value is the name.
type jsonCodec string

// jsonNames are the media types' ends that are JSON.
var jsonNames = []jsonCodec{"json", "json; charset=utf-8"}

// Name implements [connect.Codec].
func (c jsonCodec) Name() string { return string(c) }

// Marshal implements [connect.Codec].
func (c jsonCodec) Marshal(m any) ([]byte, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m.(proto.Message))
}

// Unmarshal implements [connect.Codec].
func (c jsonCodec) Unmarshal(b []byte, m any) error {
	if len(b) == 0 {
		return errors.New("the body is empty; at the least it is {}")
	}
	return protojson.Unmarshal(b, m.(proto.Message))
}
