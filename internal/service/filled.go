package service

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// errEmpty says what is wrong with a flag of type filled.
var errEmpty = errors.New("the value is empty (was a variable not set?): give one, or leave the flag out")

// filledType is what a flag of a text, or of several, has for its type (`type:"filled"`) that may be left out but not be empty. Otherwise a variable that
// was not set would silently leave undone what the flag asks for, such as a look at a signature.
const filledType = "filled"

// plainTypes decodes the values of such flags.
var plainTypes = kong.NewRegistry().RegisterDefaults()

func decodeFilled(ctx *kong.DecodeContext, target reflect.Value) error {
	text, isText := ctx.Scan.Peek().Value.(string)
	values := []string{text}
	if sep := ctx.Value.Tag.Sep; target.Kind() == reflect.Slice && sep != -1 {
		values = strings.Split(text, string(sep))
	}
	if isText && slices.Contains(values, "") {
		return errEmpty
	}
	return plainTypes.ForValue(target).Decode(ctx, target)
}
