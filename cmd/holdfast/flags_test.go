package main

import (
	"reflect"
	"testing"
)

// A text that says what to look at, as whom, and by which key, is not taken for none if a variable was not set: each such flag of these commands, and of what
// they embed, is of the type "filled", but those of which the help says that they may be empty.
func TestFlagsAreFilled(t *testing.T) {
	mayBeEmpty := map[string]bool{"witnessing.Listen": true, "replaying.Holder": true}
	for _, command := range []any{
		auditing{}, checkpointList{}, checkpointShow{}, proving{}, verifying{}, replaying{}, archiving{}, witnessing{}, keyGenerate{},
		generating{}, importing{}, rejectedList{}, rejectedRetry{},
	} {
		if texts := expectFilled(t, reflect.TypeOf(command), mayBeEmpty); texts == 0 {
			t.Errorf("%T has no flags to look at", command)
		}
	}
}

// expectFilled looks at the flags of a struct and of those that it embeds, and returns how many texts there are.
func expectFilled(t *testing.T, of reflect.Type, mayBeEmpty map[string]bool) (texts int) {
	for i := range of.NumField() {
		f := of.Field(i)
		if _, embedded := f.Tag.Lookup("embed"); f.Anonymous || embedded {
			texts += expectFilled(t, f.Type, mayBeEmpty)
			continue
		}
		kind := f.Type.Kind()
		if kind == reflect.Slice || kind == reflect.Pointer {
			kind = f.Type.Elem().Kind()
		}
		_, isArgument := f.Tag.Lookup("arg")
		_, hasDefault := f.Tag.Lookup("default")
		if name := of.Name() + "." + f.Name; kind != reflect.String || isArgument || hasDefault || mayBeEmpty[name] {
			continue
		} else if f.Tag.Get("type") != "filled" {
			t.Errorf("%s may be empty", name)
		}
		texts++
	}
	return texts
}
