package producers

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// loss is what a proxy does with the first acknowledgement that it sees.
type loss int

const (
	swallow loss = iota // keep it to itself
	cut                 // end the connection
)

// losing puts a proxy in front of a NATS server, which loses the first acknowledgement of a publish to a stream. It returns the
// proxy's URL, and whether it has lost one.
func losing(t *testing.T, server string, how loss) (address string, lost *atomic.Bool) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lost = new(atomic.Bool)
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			connections.Go(func() { relay(client, u.Host, how, lost) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		connections.Wait() // the clients have ended
	})
	return "nats://" + l.Addr().String(), lost
}

// relay relays one connection until an end closes it.
func relay(client net.Conn, server string, how loss, lost *atomic.Bool) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(upstream, client) // ends with either end
		upstream.Close()
	})
	both.Go(func() {
		_ = relayFrames(client, bufio.NewReader(upstream), how, lost) // the same
		client.Close()
		upstream.Close()
	})
	both.Wait()
}

var errCut = errors.New("cut")

// relayFrames passes on what a server says, frame by frame, save for what is lost.
func relayFrames(client io.Writer, server *bufio.Reader, how loss, lost *atomic.Bool) error {
	for {
		frame, err := server.ReadString('\n')
		if err != nil {
			return err
		}
		if fields := strings.Fields(frame); len(fields) > 3 && (fields[0] == "MSG" || fields[0] == "HMSG") {
			size, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return err
			}
			body := make([]byte, size+2)
			if _, err := io.ReadFull(server, body); err != nil {
				return err
			}
			if strings.Contains(string(body), `"stream":"`) && lost.CompareAndSwap(false, true) {
				if how == cut {
					return errCut
				}
				continue
			}
			frame += string(body)
		}
		if _, err := io.WriteString(client, frame); err != nil {
			return err
		}
	}
}
