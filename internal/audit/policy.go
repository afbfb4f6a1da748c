package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/bits"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"github.com/city-chain/holdfast/internal/files"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

// WhatIf is another policy to replay under.
type WhatIf struct {
	// Settings are those that differ from the recorded policy's, by the names that it is recorded by.
	Settings map[string]string
	// Weights are factors by token, by which each of its weights is multiplied: decimals of at least 0. A token that is not
	// among them has 1.
	Weights map[string]string
	// File is where they were read from, which errors name; empty: from none.
	File string
}

// maxPolicyFile bounds a file of a policy, in bytes.
const maxPolicyFile = 16 << 20

// ReadPolicyFile reads a WhatIf from a file of the extension .yaml, .yml, .toml or .json: a flat table of settings, and a table
// "weights".
func ReadPolicyFile(path string) (*WhatIf, error) {
	data, err := files.Read(path, maxPolicyFile)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	w, err := decodePolicy(strings.ToLower(filepath.Ext(path)), data)
	if err != nil {
		return nil, fmt.Errorf("policy file %s: %w", path, err)
	}
	w.File = path
	return w, nil
}

func decodePolicy(extension string, data []byte) (*WhatIf, error) {
	var table map[string]any // of text and of tables of text
	var err error
	switch extension {
	case ".yaml", ".yml":
		table, err = decodeYAML(data)
	case ".toml":
		table, err = decodeTOML(data)
	case ".json":
		table, err = decodeJSON(data)
	default:
		err = fmt.Errorf("unknown extension %q: name it .yaml, .yml, .toml or .json", extension)
	}
	if err != nil {
		return nil, err
	}
	w := &WhatIf{Settings: map[string]string{}, Weights: map[string]string{}}
	for key, value := range table {
		text, isText := value.(string)
		nested, _ := value.(map[string]any)
		switch {
		case key == "weights" && isText:
			return nil, errors.New(`"weights" is a table of factors by token, such as gold: 1.5`)
		case key == "weights":
			for token, factor := range nested {
				if w.Weights[token], isText = factor.(string); !isText {
					return nil, fmt.Errorf("the weight of the token %q is a table; it is a number", token)
				}
			}
		case !isText:
			return nil, fmt.Errorf("%q is a table; only weights is one", key)
		default:
			w.Settings[key] = text
		}
	}
	if len(w.Settings) == 0 && len(w.Weights) == 0 {
		return nil, errors.New("it changes nothing: name a setting of the policy, such as ttl, or weights")
	}
	_, err = newFactors(w.Weights)
	return w, err
}

func decodeYAML(data []byte) (map[string]any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document map[string]yaml.Node // which refuses a key that comes twice
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	return yamlTable(document)
}

func yamlTable(nodes map[string]yaml.Node) (map[string]any, error) {
	table := map[string]any{}
	for key, node := range nodes {
		switch {
		case node.Kind == yaml.MappingNode:
			var inner map[string]yaml.Node
			if err := node.Decode(&inner); err != nil {
				return nil, err
			}
			nested, err := yamlTable(inner)
			if err != nil {
				return nil, err
			}
			table[key] = nested
		case node.Kind == yaml.ScalarNode && node.ShortTag() != "!!null":
			table[key] = node.Value // to the letter
		default:
			return nil, fmt.Errorf("line %d: %q has no plain value", node.Line, key)
		}
	}
	return table, nil
}

func decodeTOML(data []byte) (map[string]any, error) {
	var document map[string]any
	if err := toml.Unmarshal(data, &document); err != nil {
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ := at.Position()
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		return nil, err
	}
	return tomlTable(document)
}

func tomlTable(values map[string]any) (map[string]any, error) {
	table := map[string]any{}
	for key, value := range values {
		switch v := value.(type) {
		case string:
			table[key] = v
		case bool, int64:
			table[key] = fmt.Sprint(v)
		case map[string]any:
			nested, err := tomlTable(v)
			if err != nil {
				return nil, err
			}
			table[key] = nested
		case float64:
			return nil, fmt.Errorf("%q: put %v in quotes, so that every digit is kept", key, v)
		default:
			return nil, fmt.Errorf("%q has no plain value", key)
		}
	}
	return table, nil
}

func decodeJSON(data []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // to the letter
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("it is not a JSON object"), err)
	}
	table, err := jsonTable(decoder, 1)
	if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return table, nil
}

// jsonTable reads an object that has been begun, at some depth.
func jsonTable(decoder *json.Decoder, depth int) (map[string]any, error) {
	table := map[string]any{}
	for {
		t, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		key, isKey := t.(string)
		if !isKey {
			return table, nil // its end
		}
		if _, twice := table[key]; twice {
			return nil, fmt.Errorf("%q comes twice", key)
		}
		if t, err = decoder.Token(); err != nil {
			return nil, err
		}
		switch v := t.(type) {
		case string:
			table[key] = v
		case json.Number:
			table[key] = v.String()
		case bool:
			table[key] = fmt.Sprint(v)
		case json.Delim:
			if v != '{' || depth > 1 {
				return nil, fmt.Errorf("%q has no plain value", key)
			}
			if table[key], err = jsonTable(decoder, depth+1); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%q has no plain value", key)
		}
	}
}

// maxFactorDigits is how many fraction digits a factor may have.
const maxFactorDigits = 18

// factors multiply weights exactly: everything is counted in units that are as much finer as the finest factor needs, so scores
// have digits more fraction digits than otherwise.
type factors struct {
	digits  int
	one     uint64 // the factor 1
	byToken map[string]*factor
	failed  atomic.Pointer[error] // why a weight could not be multiplied; nil: all could
}

// factor is that of one token.
type factor struct {
	by    uint64
	named atomic.Bool // by an event that was folded
}

func newFactors(weights map[string]string) (*factors, error) {
	f := &factors{byToken: map[string]*factor{}}
	parsed := map[string]*big.Int{}
	fractions := map[string]int{}
	for token, text := range weights {
		whole, fraction, _ := strings.Cut(text, ".")
		n, ok := new(big.Int).SetString(whole+fraction, 10)
		if !ok || whole == "" || strings.ContainsAny(text, "+-_") || len(text) > 40 {
			return nil, fmt.Errorf("the weight of the token %q is %q; it is a decimal of at least 0, such as 1.5", token, text)
		}
		if len(fraction) > maxFactorDigits {
			return nil, fmt.Errorf("the weight of the token %q, %s, has over %d fraction digits", token, text, maxFactorDigits)
		}
		parsed[token], fractions[token] = n, len(fraction)
		f.digits = max(f.digits, len(fraction))
	}
	f.one = 1
	for range f.digits {
		f.one *= 10
	}
	for token, n := range parsed {
		n.Mul(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(f.digits-fractions[token])), nil))
		if !n.IsUint64() {
			return nil, fmt.Errorf("the weight of the token %q, %s, is too large beside one with %d fraction digits", token, weights[token], f.digits)
		}
		f.byToken[token] = &factor{by: n.Uint64()}
	}
	return f, nil
}

// change multiplies the weight of an event. A product that does not fit is noted, and then nothing that was folded is right.
func (f *factors) change(e *events.HoldEvent, at events.Position) {
	by := f.one
	if of := f.byToken[e.Token]; of != nil {
		by = of.by
		if !of.named.Load() { // it is written once: others read it at the same time
			of.named.Store(true)
		}
	}
	high, low := bits.Mul64(e.Weight.Lo, by)
	over, middle := bits.Mul64(e.Weight.Hi, by)
	sum, carry := bits.Add64(middle, high, 0)
	if over+carry > 0 {
		err := fmt.Errorf("the weight %s of the token %q, in message %d of HOLDS, is too large to be multiplied exactly beside factors of %d fraction digits", e.Weight, e.Token, at.Sequence, f.digits)
		f.failed.CompareAndSwap(nil, &err)
		return
	}
	e.Weight = events.Weight{Hi: sum, Lo: low}
}

// unnamed returns the tokens that no event has named which was folded, in their order.
func (f *factors) unnamed() (tokens []string) {
	if f == nil {
		return nil
	}
	for token, of := range f.byToken {
		if !of.named.Load() {
			tokens = append(tokens, token)
		}
	}
	slices.Sort(tokens)
	return tokens
}

// err returns why a weight could not be multiplied, or nil.
func (f *factors) err() error {
	if f == nil {
		return nil
	}
	if err := f.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// policy returns the policy that the settings make of the recorded one.
func (w *WhatIf) policy(recorded *state.Policy) (*state.Policy, error) {
	p, err := recorded.With(w.Settings)
	if err != nil && w.File != "" {
		err = fmt.Errorf("policy file %s: %w", w.File, err)
	}
	return &p, err
}
