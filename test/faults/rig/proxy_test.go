package rig

import (
	"bufio"
	"net"
	"testing"
	"time"
)

// A proxy passes on, refuses, is silent, and passes on again, what was said in the silence included.
func TestProxy(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() { // an echo
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					_, _ = c.Write(append(lines.Bytes(), '\n'))
				}
			}()
		}
	}()
	p, err := newProxy(target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	hears := func(c net.Conn, within time.Duration) bool {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		return err == nil && line == "hello\n"
	}
	say := func(c net.Conn) { _, _ = c.Write([]byte("hello\n")) }
	const long, short = 10 * time.Second, 200 * time.Millisecond

	first := dial()
	if say(first); !hears(first, long) {
		t.Error("it does not pass on")
	}
	p.cut(true)
	if p.held.Load() != 0 {
		t.Error("it has held something back before it was to be silent")
	}
	if say(first); hears(first, short) || p.held.Load() == 0 {
		t.Error("it is not silent")
	}
	p.join()
	if !hears(first, long) {
		t.Error("what was said in the silence is lost")
	}
	p.cut(false)
	if say(first); hears(first, long) { // the connection is gone at once
		t.Error("a connection outlives a refusal")
	}
	second := dial()
	if say(second); hears(second, long) {
		t.Error("it does not refuse")
	}
	p.join()
	third := dial()
	if say(third); !hears(third, long) {
		t.Error("it does not pass on again")
	}
}
