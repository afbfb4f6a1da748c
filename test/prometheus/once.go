package prometheus

import (
	"slices"
	"strings"
)

// aggregations are PromQL's.
var aggregations = []string{"sum", "max", "min", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values"}

// chosenOne is how an expression keeps the series of one exporter alone.
var chosenOne = strings.Fields("and on ( job , instance ) topk ( 1 ,")

// brackets are what stands between "(" and ")" in an expression: a call's arguments, or a part of the whole.
type brackets struct {
	of        string   // the aggregation or function; "" = none
	by        []string // what an aggregation groups by
	without   bool     // it groups by all but these
	selectors []Series // what is asked for within and still has a series for each exporter
}

// PerExporter returns the selectors of a PromQL expression that have a series for each exporter still when they are summed up,
// compared or shown: what is of the state, which every exporter shows, would count as many times as there are exporters. Taken
// once is what the maximum over all instances is taken of, each instance's own sum among that, and what is restricted to one
// exporter by "and on (job, instance) topk(1, …)". Of the two ways to write a grouping only the one before the brackets is known.
func PerExporter(expr string) (all []Series) {
	tokens := token.FindAllString(expr, -1)
	tokens = slices.DeleteFunc(tokens, func(t string) bool { return t[0] == '#' })
	open := []*brackets{{}}
	for i := 0; i < len(tokens); i++ {
		inner := open[len(open)-1]
		switch t := tokens[i]; {
		case t == "{":
			for ; i < len(tokens) && tokens[i] != "}"; i++ { // matchers choose nothing here
			}
		case t == "and" && i+len(chosenOne) <= len(tokens) && slices.Equal(tokens[i:i+len(chosenOne)], chosenOne):
			inner.selectors = nil
		case slices.Contains(grouping, t) && i+1 < len(tokens) && tokens[i+1] == "(":
			for ; tokens[i] != ")"; i++ {
			}
		case t == "(":
			open = append(open, called(tokens, i))
		case t == ")" && len(open) > 1:
			open = open[:len(open)-1]
			outer := open[len(open)-1]
			if many := inner.close(); inner.takesOne() {
				outer.selectors = append(outer.selectors, many...)
			} else {
				all = append(all, many...)
			}
		case isMetric(tokens, i):
			inner.selectors = append(inner.selectors, Series{Metric: t, Match: map[string]string{}})
		}
	}
	return append(all, open[0].selectors...)
}

// called returns the brackets that open at a token, by what stands before them.
func called(tokens []string, at int) *brackets {
	b, i := &brackets{}, at-1
	if i >= 0 && tokens[i] == ")" { // a list of labels, or an operand that ends there
		list := i
		for ; list > 0 && tokens[list] != "("; list-- {
		}
		if list > 0 && (tokens[list-1] == "by" || tokens[list-1] == "without") {
			b.without = tokens[list-1] == "without"
			b.by = slices.DeleteFunc(slices.Clone(tokens[list+1:i]), func(t string) bool { return t == "," })
			i = list - 2
		}
	}
	if i >= 0 && isName(tokens[i]) && !slices.Contains(keywords, tokens[i]) && !slices.Contains(grouping, tokens[i]) {
		b.of = tokens[i]
	}
	return b
}

// byInstance tells whether an aggregation keeps the instances apart.
func (b *brackets) byInstance() bool { return slices.Contains(b.by, "instance") != b.without }

// takesOne tells whether what the brackets hold may still become one: no aggregation has mixed the exporters.
func (b *brackets) takesOne() bool {
	return !slices.Contains(aggregations, b.of) || b.byInstance() || b.of == "max"
}

// close returns what has a series for each exporter when the brackets are closed.
func (b *brackets) close() []Series {
	if b.of == "max" && !b.byInstance() {
		return nil
	}
	return b.selectors
}
