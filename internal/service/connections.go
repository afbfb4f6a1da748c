package service

import (
	"container/list"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// tooManyConnections is the answer to a connection that there is no room for. It is the only one that can be given before
// anything is read; a client that speaks HTTP/2 sees that the connection is closed.
const tooManyConnections = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" +
	"too many connections that all have a request running; try again\n"

// connections is a listener for TCP that keeps the number of open connections in bounds without ever making a client wait for
// another's to end: for a new one above the bound, that one is closed which has been longest without a running request, be it
// kept alive, be it one whose request's headers dawdle. Only if all have requests running is the new one refused.
type connections struct {
	net.Listener
	most    int
	metrics *HTTPMetrics

	mu      sync.Mutex
	open    int       // guarded by mu
	waiting list.List // of *connection without a running request, the longest first; guarded by mu
}

// connection is one of them. HTTP/2 runs several requests on one at a time.
type connection struct {
	*net.TCPConn
	of     *connections
	resets resets

	running int           // requests; guarded by of.mu
	place   *list.Element // in of.waiting; nil: a request runs, or it is closed; guarded by of.mu
	closed  bool          // guarded by of.mu
}

// Accept returns the next connection that there is room for.
func (l *connections) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{TCPConn: raw.(*net.TCPConn), of: l}
		evicted, ok := l.enter(c)
		if evicted != nil {
			_ = evicted.Close() // net/http, which reads from it, sees that
		}
		if ok {
			return c, nil
		}
		l.metrics.refusedConnection()
		_ = raw.SetWriteDeadline(time.Now().Add(time.Second)) // its send buffer is empty, so this does not block
		_, _ = raw.Write([]byte(tooManyConnections))
		_ = raw.Close()
	}
}

// enter counts a connection, and returns the one that is to be closed for it, if any. It is false if there is no room.
func (l *connections) enter(c *connection) (evicted *connection, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == l.most {
		longest := l.waiting.Front()
		if longest == nil {
			return nil, false
		}
		evicted = longest.Value.(*connection)
		evicted.leave()
		l.metrics.evictedConnection()
	}
	l.open++
	l.metrics.openConnections(1)
	c.place = l.waiting.PushBack(c)
	return evicted, true
}

// leave takes a connection off the list and the count, once. The caller holds of.mu.
func (c *connection) leave() {
	if c.closed {
		return
	}
	c.closed = true
	c.of.open--
	c.of.metrics.openConnections(-1)
	c.wait(false)
}

// wait notes whether the connection is without a running request. The caller holds of.mu.
func (c *connection) wait(waits bool) {
	switch {
	case waits && c.place == nil && !c.closed:
		c.place = c.of.waiting.PushBack(c)
	case !waits && c.place != nil:
		c.of.waiting.Remove(c.place)
		c.place = nil
	}
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.of.mu.Lock()
	c.leave()
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}

// Write implements [net.Conn].
func (c *connection) Write(p []byte) (int, error) { return c.TCPConn.Write(c.resets.correct(p)) }

// ReadFrom would write past Write, were it left to the TCP connection.
func (c *connection) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// add counts running requests up or down.
func (c *connection) add(requests int) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.running += requests
	c.wait(c.running == 0)
}

type connectionKey struct{}

// withConnection lets handlers find the connection that their request came by.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// connectionOf returns the connection that a request came by, nil in a handler that no HTTPServer calls.
func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}
