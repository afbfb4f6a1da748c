package partition

import (
	"errors"
	"net"
	"sync"

	"github.com/city-chain/holdfast/internal/embedded"
)

// line is a worker's way to the server. It can be cut, and it can be frozen: then what is said on it is kept, and
// delivered when it thaws.
type line struct {
	mu     sync.Mutex
	server *embedded.Server // guarded by mu
	isCut  bool             // guarded by mu
	conns  []*lineConn      // guarded by mu
}

// InProcessConn makes a connection, if the line is not cut.
func (l *line) InProcessConn() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut {
		return nil, errors.New("the line is cut")
	}
	conn, err := l.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	c := &lineConn{Conn: conn}
	c.thawed = sync.NewCond(&c.mu)
	l.conns = append(l.conns, c)
	return c, nil
}

// cut closes the line until it is mended.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// mend lets connections be made again, to that server.
func (l *line) mend(to *embedded.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut, l.server = false, to
}

// freeze begins to keep what is said, in both directions.
func (l *line) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.mu.Lock()
		c.frozen = true
		c.mu.Unlock()
	}
}

// thaw delivers what was kept.
func (l *line) thaw() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, c := range l.conns {
		errs = append(errs, c.thaw())
	}
	return errors.Join(errs...)
}

// lineConn is the worker's end of a connection.
type lineConn struct {
	net.Conn

	mu     sync.Mutex
	frozen bool       // guarded by mu
	kept   []byte     // what is to be written; guarded by mu
	thawed *sync.Cond // frozen became false
}

func (c *lineConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		c.kept = append(c.kept, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *lineConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.frozen {
		c.thawed.Wait()
	}
	return n, err
}

func (c *lineConn) thaw() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(c.kept)
	c.kept, c.frozen = nil, false
	c.thawed.Broadcast()
	return err
}

func (c *lineConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = false
	c.thawed.Broadcast()
	return c.Conn.Close()
}
