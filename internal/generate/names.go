package generate

import "strconv"

// Ids of holders are a prefix and the holder's number, in digits of a fixed length.
const (
	holderName   = "holder-"
	holderDigits = 9 // as many as appendHolder writes
)

// appendHolder appends the id of the holder of that number.
func appendHolder(b []byte, prefix string, number int) []byte {
	b = append(append(append(b, prefix...), holderName...), "000000000"...)
	rest := uint32(number)
	for i := len(b) - 1; rest > 0; i-- {
		b[i] = byte('0' + rest%10)
		rest /= 10
	}
	return b
}

func (g *Generator) holder(number int) string {
	return string(appendHolder(make([]byte, 0, len(g.Prefix)+len(holderName)+holderDigits), g.Prefix, number))
}

// names are so many texts that begin alike.
func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = prefix + strconv.Itoa(i)
	}
	return list
}
