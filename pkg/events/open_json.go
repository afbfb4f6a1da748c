package events

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// readJSON reads one flat JSON object.
func readJSON(data []byte) (fields, error) {
	var f fields
	if !utf8.Valid(data) {
		return f, refuse(Malformed, "", "the JSON is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if _, err := d.Token(); err != nil {
		return f, refuseJSON(err)
	}
	for d.More() {
		name, err := jsonText(d, data)
		if err != nil {
			return f, err
		}
		before := d.InputOffset()
		token, err := d.Token()
		if err != nil {
			return f, refuseJSON(err)
		}
		switch v := token.(type) {
		case string:
			if err = checkSurrogates(name, data[before:d.InputOffset()]); err == nil {
				err = f.add(name, v, formText)
			}
		case json.Number:
			err = f.add(name, v.String(), formNumber)
		case nil:
			err = f.add(name, "null", formNil)
		case bool:
			err = f.add(name, strconv.FormatBool(v), formOther)
		default:
			err = refuse(Malformed, name, "the value is an object or array; an event is flat")
		}
		if err != nil {
			return f, err
		}
	}
	if _, err := d.Token(); err != nil {
		return f, refuseJSON(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return f, refuse(Malformed, "", "something follows the JSON object; a message is one event")
	}
	return f, nil
}

// jsonText reads a field's name.
func jsonText(d *json.Decoder, data []byte) (string, error) {
	before := d.InputOffset()
	token, err := d.Token()
	if err != nil {
		return "", refuseJSON(err)
	}
	name, ok := token.(string)
	if !ok {
		return "", refuse(Malformed, "", "a field's name is not a text")
	}
	return name, checkSurrogates("", data[before:d.InputOffset()])
}

// checkSurrogates refuses half of a surrogate pair in the escapes of a JSON text, which the decoder would
// silently replace: two different ids would become one.
func checkSurrogates(name string, raw []byte) error {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if raw[i] != 'u' {
			continue
		}
		first, second := escaped(raw[i+1:]), rune(0)
		if len(raw) > i+6 && raw[i+5] == '\\' && raw[i+6] == 'u' {
			second = escaped(raw[i+7:])
		}
		if !utf16.IsSurrogate(first) {
			continue
		}
		if utf16.DecodeRune(first, second) == utf8.RuneError {
			return refuse(InvalidID, name, "the text has half of a surrogate pair, \\u%04x, which is no character", first)
		}
		i += 6
	}
	return nil
}

// escaped returns the value of the four hexadecimal digits that b starts with, 0 if there are none.
func escaped(b []byte) rune {
	if len(b) < 4 {
		return 0
	}
	v, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(v)
}

func refuseJSON(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return refuse(Malformed, "", "the JSON ends too early")
	}
	return refuse(Malformed, "", "not JSON: %v", err)
}
