package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"github.com/city-chain/holdfast/internal/files"
)

// configFile is a configuration file as a source of flags; before load it has none. Values are kept as text and read by
// kong as if they stood on the command line, so a file and a flag agree on what a value means.
type configFile struct {
	path   string
	values map[string]fileValue // by the flag's name
}

// fileValue is what a file says for one key.
type fileValue struct {
	texts []string // one, or the items of a list
	list  bool
	// literal: the text is what the author wrote, to the letter. It is not for a TOML number (1.10 has become 1.1), which
	// therefore must not end up in a flag that takes a string.
	literal bool
}

// errConfigValue is the file's side of what a person sees; the flag's side is kong's.
var (
	errNoValue = errors.New("has no value: give one, or remove the key")
	errNested  = errors.New("is a table, but keys are flat and named as the flags are, as in nats-creds")
	errBadItem = errors.New("has a list item that is not a plain value")
)

// maxConfigFile bounds a configuration file, in bytes.
const maxConfigFile = 1 << 20

// load reads the file at path. Every key must be the name of a flag in app or one of its commands.
func (f *configFile) load(path string, app *kong.Application) error {
	data, err := files.Read(path, maxConfigFile)
	if err != nil {
		return fmt.Errorf("read config file: %w", err)
	}
	var values map[string]fileValue
	switch extension := strings.ToLower(filepath.Ext(path)); extension {
	case ".yaml", ".yml":
		values, err = decodeYAML(data)
	case ".toml":
		values, err = decodeTOML(data)
	default:
		err = fmt.Errorf("unknown extension %q: name it .yaml, .yml or .toml", extension)
	}
	if err != nil {
		return fmt.Errorf("config file %s: %w", path, err)
	}
	if err := checkKeys(values, app); err != nil {
		return fmt.Errorf("config file %s: %w", path, err)
	}
	f.path, f.values = path, values
	return nil
}

// Validate is kong's question whether the file suits the command; load has answered it already.
func (f *configFile) Validate(*kong.Application) error { return nil }

// Resolve is kong's question for the value of a flag that is not on the command line. kong would let the answer prevail over
// the environment, so there is none where the environment has spoken.
func (f *configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := f.values[flag.Name]
	if !ok {
		return nil, nil
	}
	for _, env := range flag.Tag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil
		}
	}
	text, err := value.forFlag(flag)
	if err != nil {
		return nil, fmt.Errorf("config file %s, key %s: %w", f.path, flag.Name, err)
	}
	return text, nil
}

// forFlag returns the value as text for the command line, having made sure that the flag takes it.
func (v fileValue) forFlag(flag *kong.Flag) (string, error) {
	kind := flag.Target.Kind()
	text := ""
	switch {
	case v.list && !flag.IsSlice():
		return "", errors.New("is a list, but takes a single value")
	case v.list:
		kind = flag.Target.Type().Elem().Kind()
		text = kong.JoinEscaped(v.texts, flag.Tag.Sep)
	default:
		text = v.texts[0]
	}
	if kind == reflect.String && !v.literal {
		return "", fmt.Errorf("takes a string: put %s in quotes", text)
	}
	// A trial, so that the error names the file. Not Flag.Parse, which would note the flag as set.
	trial := reflect.New(flag.Target.Type()).Elem()
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text})
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, trial); err != nil {
		return "", err
	}
	if flag.Enum != "" && !v.list && !flag.EnumMap()[text] {
		return "", fmt.Errorf("must be one of %s, not %q", strings.Join(flag.EnumSlice(), ", "), text)
	}
	return text, nil
}

// checkKeys refuses keys that name no flag, and those that make no sense in a file.
func checkKeys(values map[string]fileValue, app *kong.Application) error {
	flags := map[string]bool{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			flags[flag.Name] = true
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for _, notInFile := range []string{"help", "version", "config"} {
		delete(flags, notInFile)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !flags[key] {
			return fmt.Errorf("unknown key %q: the keys are the names of the flags, see --help", key)
		}
	}
	return nil
}

func decodeYAML(data []byte) (map[string]fileValue, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document map[string]yaml.Node
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	values := make(map[string]fileValue, len(document))
	for key, node := range document {
		value, err := yamlValue(&node)
		if err != nil {
			return nil, fmt.Errorf("line %d: key %q %w", node.Line, key, err)
		}
		values[key] = value
	}
	return values, nil
}

func yamlValue(node *yaml.Node) (fileValue, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node.Kind == yaml.MappingNode:
		return fileValue{}, errNested
	case node.Kind == yaml.SequenceNode:
		value := fileValue{list: true, literal: true}
		for _, item := range node.Content {
			single, err := yamlValue(item)
			if err != nil || single.list {
				return fileValue{}, errBadItem
			}
			value.texts = append(value.texts, single.texts[0])
		}
		return value, nil
	case node.ShortTag() == "!!null":
		return fileValue{}, errNoValue
	default:
		return fileValue{texts: []string{node.Value}, literal: true}, nil
	}
}

func decodeTOML(data []byte) (map[string]fileValue, error) {
	var document map[string]any
	if err := toml.Unmarshal(data, &document); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ := at.Position()
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		return nil, err
	}
	values := make(map[string]fileValue, len(document))
	for key, v := range document {
		value, err := tomlValue(v)
		if err != nil {
			return nil, fmt.Errorf("key %q %w", key, err)
		}
		values[key] = value
	}
	return values, nil
}

func tomlValue(v any) (fileValue, error) {
	switch v := v.(type) {
	case map[string]any:
		return fileValue{}, errNested
	case []any:
		value := fileValue{list: true, literal: true}
		for _, item := range v {
			single, err := tomlValue(item)
			if err != nil || single.list {
				return fileValue{}, errBadItem
			}
			value.texts = append(value.texts, single.texts[0])
			value.literal = value.literal && single.literal
		}
		return value, nil
	case string:
		return fileValue{texts: []string{v}, literal: true}, nil
	default: // bool, int64, float64, dates and times
		text, err := toml.Marshal(map[string]any{"v": v})
		if err != nil {
			return fileValue{}, err
		}
		_, value, _ := strings.Cut(strings.TrimSpace(string(text)), " = ")
		return fileValue{texts: []string{value}}, nil
	}
}
