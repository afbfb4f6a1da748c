package main

import (
	"reflect"
	"testing"
)

// A text that says what to look at, and by which key, is not taken for none if a variable was not set: each such flag of the commands for auditors is of
// the type "filled", but those of which the help says that they may be empty.
func TestFlagsForAuditorsAreFilled(t *testing.T) {
	mayBeEmpty := map[string]bool{"witnessing.Listen": true, "replaying.Holder": true}
	for _, command := range []any{auditing{}, checkpointList{}, checkpointShow{}, proving{}, verifying{}, replaying{}, archiving{}, witnessing{}, keyGenerate{}} {
		of := reflect.TypeOf(command)
		texts := 0
		for i := range of.NumField() {
			f := of.Field(i)
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
		if texts == 0 {
			t.Errorf("%s has no flags to look at", of.Name())
		}
	}
}
