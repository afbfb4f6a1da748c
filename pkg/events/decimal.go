package events

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// errOverflow is returned for a decimal that is well-formed and larger than 128 bits hold.
var errOverflow = errors.New("too large")

// maxDecimalLength bounds the text of a number from outside.
const maxDecimalLength = 128

// parseDecimal reads a decimal number of at least 0, in the syntax of JSON (leading zeros and a missing
// digit before or after the point are permitted too), as an integer of 128 bits in units of 10^-digits.
// What is finer than a unit is cut off; exact tells whether that was nothing.
func parseDecimal(s string, digits int) (hi, lo uint64, exact bool, err error) {
	if s == "" {
		return 0, 0, false, errors.New("it is empty")
	}
	if len(s) > maxDecimalLength {
		return 0, 0, false, fmt.Errorf("a number of %d characters; at most %d are read", len(s), maxDecimalLength)
	}
	mantissa, exponent, err := splitExponent(s)
	if err != nil {
		return 0, 0, false, err
	}
	negative := false
	switch mantissa[0] {
	case '-':
		negative, mantissa = true, mantissa[1:]
	case '+':
		mantissa = mantissa[1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole == "" && fraction == "" {
		return 0, 0, false, errors.New("it has no digits")
	}
	all := whole + fraction
	for i := range len(all) {
		if all[i] < '0' || all[i] > '9' {
			return 0, 0, false, errors.New("it is not a decimal number")
		}
	}
	if strings.Trim(all, "0") == "" {
		return 0, 0, true, nil
	}
	if negative {
		return 0, 0, false, errors.New("it is negative")
	}
	kept := len(whole) + exponent + digits // so many digits of all are whole units
	if kept < 0 {
		return 0, 0, false, nil
	}
	exact = true
	if kept < len(all) {
		exact = strings.Trim(all[kept:], "0") == ""
		all = all[:kept]
	}
	all = strings.TrimLeft(all, "0")
	if zeros := kept - len(whole+fraction); zeros > 0 && all != "" {
		if zeros > 40 {
			return 0, 0, false, errOverflow
		}
		all += strings.Repeat("0", zeros)
	}
	for i := range len(all) {
		over, hi10 := bits.Mul64(hi, 10)
		carry, lo10 := bits.Mul64(lo, 10)
		var c1, c2 uint64
		lo, c1 = bits.Add64(lo10, uint64(all[i]-'0'), 0)
		hi, c2 = bits.Add64(hi10, carry, c1)
		if over|c2 != 0 {
			return 0, 0, false, errOverflow
		}
	}
	return hi, lo, exact, nil
}

// splitExponent cuts a number into what stands before its exponent and the exponent's value, bounded to
// what no text of permitted length can make up for.
func splitExponent(s string) (mantissa string, exponent int, err error) {
	i := strings.IndexAny(s, "eE")
	if i < 0 {
		return s, 0, nil
	}
	if i == 0 || strings.Trim(s[:i], "+-.0123456789") != "" {
		return "", 0, errors.New("it is not a decimal number") // but a word with an e in it
	}
	const limit = 10 * maxDecimalLength
	digits := s[i+1:]
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	if digits == "" {
		return "", 0, errors.New("its exponent is missing")
	}
	for j := range len(digits) {
		if digits[j] < '0' || digits[j] > '9' {
			return "", 0, errors.New("its exponent is not a whole number")
		}
		exponent = min(limit, exponent*10+int(digits[j]-'0'))
	}
	if negative {
		exponent = -exponent
	}
	return s[:i], exponent, nil
}
