package main

import (
	"strconv"
	"strings"

	"github.com/rivo/uniseg"
)

// line is a line of output for people.
type line struct {
	text  string
	style style
}

// style is how a line stands out on a terminal with colours.
type style string

const (
	plain   style = ""
	strong  style = "1"
	warning style = "33"
)

// plainLines are texts as lines that do not stand out.
func plainLines(texts ...string) []line {
	lines := make([]line, len(texts))
	for i, t := range texts {
		lines[i].text = t
	}
	return lines
}

// table is rows of cells whose columns are aligned by how wide a terminal shows them. What a terminal would act on is
// escaped in every cell, so that nothing that an id says can do more than be read.
type table struct {
	align string // by column: l = left, r = right, d = by the decimal point
	head  bool   // the first row is a head
	rows  [][]string
	// widest, if it is not nil, has the columns be no narrower than in the tables before that had it, so that they do not move.
	widest *columns
}

// columns are how wide the columns of tables have been, and how many characters of their numbers came from the decimal point on.
type columns struct{ widths, fractions [8]int }

func (t *table) add(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = escaped(c)
	}
	t.rows = append(t.rows, row)
}

// lines returns the rows, their columns two blanks apart, each line begun by indent.
func (t *table) lines(indent string) []line {
	for i, a := range t.align {
		if a == 'd' {
			t.alignPoints(i)
		}
	}
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], uniseg.StringWidth(c))
		}
	}
	lines := make([]line, len(t.rows))
	if t.widest != nil {
		for i := range widths {
			widths[i] = max(widths[i], t.widest.widths[i])
			t.widest.widths[i] = widths[i]
		}
	}
	for i, row := range t.rows {
		var b strings.Builder
		b.WriteString(indent)
		for k, c := range row {
			if k > 0 {
				b.WriteString("  ")
			}
			gap := strings.Repeat(" ", widths[k]-uniseg.StringWidth(c))
			if t.align[k] == 'l' {
				b.WriteString(c + gap)
			} else {
				b.WriteString(gap + c)
			}
		}
		lines[i].text = strings.TrimRight(b.String(), " ")
	}
	if t.head && len(lines) > 0 {
		lines[0].style = strong
	}
	return lines
}

// alignPoints fills up the numbers of a column, so that their decimal points meet once they are aligned to the right.
func (t *table) alignPoints(column int) {
	numbers := t.rows
	if t.head {
		numbers = numbers[1:]
	}
	most := 0
	for _, row := range numbers {
		most = max(most, fraction(row[column]))
	}
	if t.widest != nil {
		most = max(most, t.widest.fractions[column])
		t.widest.fractions[column] = most
	}
	for _, row := range numbers {
		row[column] += strings.Repeat(" ", most-fraction(row[column]))
	}
}

// fraction is how many characters of a number come from its decimal point on.
func fraction(number string) int {
	if point := strings.IndexByte(number, '.'); point >= 0 {
		return len(number) - point
	}
	return 0
}

// fit cuts a text to so many columns of a terminal, the last of which then says that there is more; 0 = as many as there are.
func fit(text string, width int) string {
	if width <= 0 || uniseg.StringWidth(text) <= width {
		return text
	}
	kept, used := 0, 0
	for rest, state := text, -1; rest != ""; {
		var cluster string
		var w int
		cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if used+w > width-1 {
			break
		}
		used, kept = used+w, kept+len(cluster)
	}
	return text[:kept] + "…"
}

// shown is an id on a terminal: as it is, or quoted if it has characters that are not to be printed, or blanks where they
// would not be seen.
func shown(id string) string {
	if quoted := strconv.Quote(id); quoted != `"`+id+`"` || strings.TrimSpace(id) != id {
		return quoted
	}
	return id
}

// escaped is a text in which what is not to be printed is escaped.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
