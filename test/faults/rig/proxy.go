package rig

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy passes TCP connections on to a target, unless it is cut.
type proxy struct {
	target   string
	listener net.Listener
	held     atomic.Int64 // writes that had to wait, since it was silenced last

	mu    sync.Mutex
	conns map[net.Conn]bool // of both sides; guarded by mu
	open  chan struct{}     // closed while bytes may pass; guarded by mu
	state proxyState        // guarded by mu
}

type proxyState int

const (
	passing  proxyState = iota
	refusing            // connections are refused, and those that were there are gone
	silent              // no byte passes
)

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{target: target, listener: l, conns: map[net.Conn]bool{}, open: make(chan struct{})}
	close(p.open)
	go p.serve()
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		go p.pass(c)
	}
}

// pass connects to the target and copies both ways until one side ends.
func (p *proxy) pass(from net.Conn) {
	defer from.Close()
	if !p.add(from) {
		return
	}
	defer p.remove(from)
	to, err := net.DialTimeout("tcp", p.target, time.Second)
	if err != nil {
		return
	}
	defer to.Close()
	if !p.add(to) {
		return
	}
	defer p.remove(to)
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			defer func() { done <- struct{}{} }()
			_, _ = io.Copy(gated{p, pair[1]}, pair[0]) // either side may end at any time
		}()
	}
	<-done
	from.Close()
	to.Close()
	<-done
}

// gated writes when bytes may pass.
type gated struct {
	proxy *proxy
	net.Conn
}

func (g gated) Write(b []byte) (int, error) {
	g.proxy.mu.Lock()
	open, state := g.proxy.open, g.proxy.state
	g.proxy.mu.Unlock()
	if state == silent {
		g.proxy.held.Add(1)
	}
	<-open
	return g.Conn.Write(b)
}

// add takes a connection up, unless connections are refused.
func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == refusing {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// cut refuses connections from now on and ends those that are there, or lets no byte pass.
func (p *proxy) cut(silence bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if silence {
		p.state, p.open = silent, make(chan struct{})
		p.held.Store(0)
		return
	}
	p.state = refusing
	for c := range p.conns {
		c.Close()
	}
}

// join lets connections and bytes pass again.
func (p *proxy) join() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == silent {
		close(p.open)
	}
	p.state = passing
}

func (p *proxy) close() {
	p.listener.Close()
	p.join()
	p.cut(false)
}
