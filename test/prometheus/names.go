package prometheus

import (
	"regexp"
	"slices"
	"strings"
)

// token is what a PromQL expression is made of, as far as its names are concerned.
var token = regexp.MustCompile("(?s)" + strings.Join([]string{
	`#[^\n]*`,                    // a comment
	`"(?:[^"\\]|\\.)*"`,          // a string
	`'(?:[^'\\]|\\.)*'`,          //
	"`[^`]*`",                    //
	`\[[^\]]*\]`,                 // a range
	`[0-9][0-9a-zA-Z_.]*`,        // a number, or a duration
	`[a-zA-Z_:][a-zA-Z0-9_:]*`,   // a name
	`=~|!~|!=|[-+*/%^=<>(){},@]`, // the rest
}, "|"))

// keywords are names that stand for neither a metric nor a label nor a function.
var keywords = []string{"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"}

// grouping are the keywords that a list of labels follows.
var grouping = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}

// Series is what an expression asks for: a metric, and the labels that it must have for that.
type Series struct {
	Metric string            // "" if a matcher of __name__ chooses it
	Match  map[string]string // what a label must be equal to, and for __name__ what it must match
}

// Names returns the selectors of a PromQL expression, and the labels that it groups by or matches on. The expression must be
// a valid one; promtool says whether it is.
func Names(expr string) (selectors []Series, labels []string) {
	tokens := token.FindAllString(expr, -1)
	next := func(i int) string {
		if i+1 < len(tokens) {
			return tokens[i+1]
		}
		return ""
	}
	listed := false // within the brackets of a list of labels
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch {
		case slices.Contains(grouping, t):
			listed = next(i) == "("
		case t == ")":
			listed = false
		case t == "{":
			s := Series{Match: map[string]string{}}
			if i > 0 && isMetric(tokens, i-1) {
				s = selectors[len(selectors)-1]
				selectors = selectors[:len(selectors)-1]
			}
			for i++; i < len(tokens) && tokens[i] != "}"; i++ {
				if !isName(tokens[i]) {
					continue
				}
				name, operator, value := tokens[i], tokens[i+1], strings.Trim(tokens[i+2], "\"'`")
				labels = append(labels, name)
				if operator == "=" || name == "__name__" {
					s.Match[name] = value
				}
				i += 2
			}
			selectors = append(selectors, s)
		case listed && isName(t):
			labels = append(labels, t)
		case isMetric(tokens, i):
			selectors = append(selectors, Series{Metric: t, Match: map[string]string{}})
		}
	}
	slices.Sort(labels)
	return selectors, slices.DeleteFunc(slices.Compact(labels), func(l string) bool { return l == "__name__" })
}

func isName(t string) bool {
	return t[0] == '_' || t[0] == ':' || 'a' <= t[0] && t[0] <= 'z' || 'A' <= t[0] && t[0] <= 'Z'
}

// isMetric tells whether a token outside of lists of labels is a metric's name: no function's or aggregation's, which a bracket
// or a grouping follows.
func isMetric(tokens []string, i int) bool {
	t := tokens[i]
	if !isName(t) || slices.Contains(keywords, strings.ToLower(t)) || slices.Contains(grouping, t) {
		return false
	}
	return i+1 == len(tokens) || tokens[i+1] != "(" && !slices.Contains([]string{"by", "without"}, tokens[i+1])
}
