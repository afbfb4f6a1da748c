package examples_test

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// update has TestTransfers write transfers.csv and deltas.csv anew.
var update = flag.Bool("update", false, "write transfers.csv and deltas.csv anew")

const (
	transfersName = "transfers.csv"
	deltasName    = "deltas.csv"

	transfersHeader = "block_number,block_timestamp,transaction_hash,log_index,token_address,from_address,to_address,value"
	deltasHeader    = "time,holder_id,token_id,change"

	zeroAddress = "0x0000000000000000000000000000000000000000"
)

// transfer is one row of transfers.csv: an event Transfer of an ERC-20 token, as exports of a chain have it.
type transfer struct {
	block           uint64
	at              time.Time
	transaction     string
	logIndex        int
	token, from, to string
	value           *big.Int // in the token's smallest unit, 10⁻¹⁸
}

// chain makes transfers up, always the same ones.
type chain struct {
	random   *rand.Rand
	token    string
	holders  []string
	balances map[string]*big.Int
	list     []transfer
	block    uint64
	logIndex int
}

// makeTransfers makes up a token's first weeks: it is minted to three, who give it to others; a pool buys and sells; some is burnt.
func makeTransfers() []transfer {
	c := &chain{random: rand.New(rand.NewPCG(20, 18)), balances: map[string]*big.Int{}, block: 21_525_891}
	c.token = c.hex(20)
	for range 28 {
		c.holders = append(c.holders, c.hex(20))
		c.balances[c.holders[len(c.holders)-1]] = new(big.Int)
	}
	first := c.hex(32)
	for i, tokens := range []int64{600_000, 300_000, 100_000} {
		c.add(first, zeroAddress, c.holders[i], new(big.Int).Mul(big.NewInt(tokens), ether))
	}
	for len(c.list) < 320 {
		c.step()
	}
	return c.list
}

var ether = new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil)

// step makes the next transaction.
func (c *chain) step() {
	blocks := 1 + c.random.Uint64N(900)
	if c.random.IntN(5) == 0 {
		blocks = 0 // in the same block as the one before
	}
	if c.block += blocks; blocks > 0 {
		c.logIndex = c.random.IntN(40)
	}
	transaction := c.hex(32)
	const pool = 3
	from, to := c.someone(), c.someone()
	for c.balances[from].Sign() == 0 {
		from = c.someone()
	}
	switch c.random.IntN(20) {
	case 0:
		c.add(transaction, from, zeroAddress, c.part(from)) // burnt
	case 1:
		c.add(transaction, from, to, new(big.Int)) // nothing, which is permitted
	case 2:
		c.add(transaction, from, from, c.part(from)) // to oneself, which is too
	case 3, 4, 5: // by way of the pool, in one transaction
		value := c.part(from)
		c.add(transaction, from, c.holders[pool], value)
		c.add(transaction, c.holders[pool], to, value)
	case 6: // new tokens, to those who have the most
		c.add(transaction, zeroAddress, c.holders[c.random.IntN(3)], new(big.Int).Mul(big.NewInt(1+c.random.Int64N(5_000)), ether))
	default:
		c.add(transaction, from, to, c.part(from))
	}
}

// someone is a holder; the first ones come more often.
func (c *chain) someone() string {
	x := c.random.Float64()
	return c.holders[int(x*x*float64(len(c.holders)))]
}

// part is some of what a holder has: all of it, a round number of tokens, or any number of units.
func (c *chain) part(holder string) *big.Int {
	all := c.balances[holder]
	value := new(big.Int).Div(new(big.Int).Mul(all, big.NewInt(1+c.random.Int64N(500))), big.NewInt(1000))
	switch c.random.IntN(8) {
	case 0:
		return new(big.Int).Set(all)
	case 1, 2, 3:
		if value.Cmp(ether) >= 0 {
			return value.Sub(value, new(big.Int).Mod(value, ether))
		}
	}
	return value
}

// add adds a transfer. A sender has what it sends: the zero address has whatever is minted.
func (c *chain) add(transaction, from, to string, value *big.Int) {
	const slot = 12 * time.Second
	at := time.Date(2025, 1, 1, 0, 0, 11, 0, time.UTC).Add(time.Duration(c.block-21_525_891) * slot)
	c.list = append(c.list, transfer{c.block, at, transaction, c.logIndex, c.token, from, to, value})
	c.logIndex++
	if from != zeroAddress {
		c.balances[from].Sub(c.balances[from], value)
	}
	if to != zeroAddress {
		c.balances[to].Add(c.balances[to], value)
	}
}

// hex is so many bytes, made up, as chains write them.
func (c *chain) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(c.random.Uint32())
	}
	return "0x" + hex.EncodeToString(b)
}

func transfersCSV(list []transfer) string {
	var b strings.Builder
	fmt.Fprintln(&b, transfersHeader)
	for _, r := range list {
		fmt.Fprintf(&b, "%d,%s,%s,%d,%s,%s,%s,%s\n", r.block, r.at.Format(time.RFC3339), r.transaction, r.logIndex, r.token, r.from, r.to, r.value)
	}
	return b.String()
}

// deltasCSV is what the transfers change: a row for who gives, then one for who gets. Who mints or burns is nobody, and a
// transfer of nothing changes nothing.
func deltasCSV(list []transfer) string {
	var b strings.Builder
	fmt.Fprintln(&b, deltasHeader)
	for _, r := range list {
		at := r.at.Format(time.RFC3339)
		if r.value.Sign() == 0 {
			continue
		}
		if r.from != zeroAddress {
			fmt.Fprintf(&b, "%s,%s,%s,-%s\n", at, r.from, r.token, r.value)
		}
		if r.to != zeroAddress {
			fmt.Fprintf(&b, "%s,%s,%s,%s\n", at, r.to, r.token, r.value)
		}
	}
	return b.String()
}

func TestTransfers(t *testing.T) {
	list := makeTransfers()
	for name, want := range map[string]string{transfersName: transfersCSV(list), deltasName: deltasCSV(list)} {
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, strings.ReplaceAll(string(got), "\r\n", "\n")); diff != "" {
			t.Errorf("%s is not what is made up here; if that changed on purpose, go test ./examples -run TestTransfers -update (-want +got):\n%s", name, diff)
		}
	}
}

// The balances of deltas.csv never go below zero or over the largest weight, and its rows are in the order of time; README.md
// says how many there are.
func TestDeltas(t *testing.T) {
	lines := readCSV(t, deltasName)
	if got := strings.Join(lines[0], ","); got != deltasHeader {
		t.Errorf("header %s, want %s", got, deltasHeader)
	}
	largest := new(big.Int).Lsh(big.NewInt(1), 96)
	balances, last := map[string]*big.Int{}, ""
	for i, line := range lines[1:] {
		at, holder, token := line[0], line[1], line[2]
		change, ok := new(big.Int).SetString(line[3], 10)
		if !ok || change.Sign() == 0 || at < last {
			t.Errorf("row %d: %v, after %s", i+1, line, last)
			continue
		}
		last = at
		of := balances[holder+" "+token]
		if of == nil {
			of = new(big.Int)
			balances[holder+" "+token] = of
		}
		if of.Add(of, change); of.Sign() < 0 || of.Cmp(largest) > 0 {
			t.Errorf("row %d: the balance is %s", i+1, of)
		}
	}
	mints, burns, nothing := 0, 0, 0
	for _, line := range readCSV(t, transfersName)[1:] {
		switch {
		case line[7] == "0":
			nothing++
		case line[5] == zeroAddress:
			mints++
		case line[6] == zeroAddress:
			burns++
		}
	}
	transfers := len(readCSV(t, transfersName)) - 1
	if changes := len(lines) - 1; changes != 2*transfers-mints-burns-2*nothing {
		t.Errorf("%d changes of %d transfers, of which %d mint, %d burn and %d move nothing", changes, transfers, mints, burns, nothing)
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range []string{
		strconv.Itoa(transfers) + " transfers", strconv.Itoa(len(lines)-1) + " changes", strconv.Itoa(len(balances)) + " holders",
		strconv.Itoa(mints) + " mint", strconv.Itoa(burns) + " burn", strconv.Itoa(nothing) + " move nothing",
	} {
		if !strings.Contains(string(page), claim) {
			t.Errorf("README.md does not say %q", claim)
		}
	}
}

// The command in README.md makes deltas.csv of transfers.csv.
func TestDeltasByAwk(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err == nil {
		_, err = exec.LookPath("awk")
	}
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip("NOT CHECKED: there is no sh or awk here")
	}
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n    awk ")
	command, _, ends := strings.Cut(rest, "\n\n")
	command, target, redirected := strings.Cut("awk "+command, " > ")
	if !found || !ends || !redirected || target != "examples/"+deltasName {
		t.Fatalf("README.md has no command awk that writes examples/%s", deltasName)
	}
	awk := exec.Command(shell, "-c", command)
	awk.Dir = ".."
	var failed bytes.Buffer
	awk.Stderr = &failed
	got, err := awk.Output()
	if err != nil {
		t.Fatalf("%s: %v %s", command, err, &failed)
	}
	want, err := os.ReadFile(filepath.Join(".", deltasName))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-%s +awk):\n%s", deltasName, diff)
	}
}

func readCSV(t *testing.T, name string) [][]string {
	t.Helper()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
