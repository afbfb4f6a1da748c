package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Server is a NATS server.
type Server struct {
	*Process
	Index int
	rig   *Rig

	client, monitor, cluster string // addresses
	store                    string
	config                   string
	routes                   []*proxy // to the other servers
	disk                     *disk    // nil: the store lies in the rig's folder
	filled                   int64    // how long the log was when the disk was filled
	full                     bool     // the disk is: the server may end by itself when it starts
}

// URL is the server's address for clients.
func (s *Server) URL() string { return "nats://" + s.client }

// startServers makes the servers' configurations and starts them.
func (r *Rig) startServers(ctx context.Context) error {
	count := r.Options.Servers
	for i := range count {
		s := &Server{Index: i, rig: r, store: filepath.Join(r.Folder, fmt.Sprintf("store-%d", i))}
		for _, address := range []*string{&s.client, &s.monitor, &s.cluster} {
			var err error
			if *address, err = freeAddress(r.Ports); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(s.store, 0o700); err != nil {
			return err
		}
		if r.Disk > 0 && i == count-1 {
			var err error
			if s.disk, err = mountDisk(s.store, r.Disk); err != nil {
				return err
			}
		}
		r.Servers = append(r.Servers, s)
	}
	for _, s := range r.Servers {
		if err := s.configure(); err != nil {
			return err
		}
	}
	for _, s := range r.Servers {
		if err := s.Start(); err != nil {
			return err
		}
	}
	return r.AwaitServers(ctx, time.Minute)
}

// configure writes the server's configuration: what deploy/nats.conf says, and the cluster.
func (s *Server) configure() error {
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: n%d\nlisten: %s\nhttp: %s\n", s.Index, s.client, s.monitor)
	fmt.Fprintf(&b, "jetstream {\n  store_dir: %q\n  sync_interval: always\n}\n", filepath.ToSlash(s.store))
	if len(s.rig.Servers) > 1 {
		var routes []string
		for _, other := range s.rig.Servers {
			if other == s {
				continue
			}
			p, err := newProxy(other.cluster)
			if err != nil {
				return err
			}
			s.routes = append(s.routes, p)
			routes = append(routes, "nats-route://"+p.address())
		}
		// What a server tells others about where to reach it leads nowhere: all routes go through the proxies.
		fmt.Fprintf(&b, "cluster {\n  name: faults\n  listen: %s\n  advertise: \"127.0.0.1:1\"\n  routes: [%s]\n}\n", s.cluster, strings.Join(routes, ", "))
	}
	s.config = filepath.Join(s.rig.Folder, fmt.Sprintf("nats-%d.conf", s.Index))
	return os.WriteFile(s.config, []byte(b.String()), 0o600)
}

// Start starts the server, which is not running.
func (s *Server) Start() (err error) {
	s.Process, err = s.rig.begin(fmt.Sprintf("nats-%d", s.Index), s.rig.Program("nats-server"), s.full, "-c", s.config)
	return err
}

// Healthy returns what the server has to say against itself, nil if it serves all of its streams.
func (s *Server) Healthy(ctx context.Context) error {
	return httpOK(ctx, "http://"+s.monitor+"/healthz")
}

// AwaitServers waits until all servers are healthy.
func (r *Rig) AwaitServers(ctx context.Context, most time.Duration) error {
	return await(ctx, most, "all servers are healthy", func() error {
		var errs []error
		for _, s := range r.Servers {
			errs = append(errs, s.Healthy(ctx))
		}
		return errors.Join(errs...)
	})
}

// Cut cuts the server off from the others, which are refused by it and refuse it. Its clients stay connected. With silence, nobody is
// refused: what is sent does not arrive until the server is joined again.
func (s *Server) Cut(silence bool) { s.eachRoute(func(p *proxy) { p.cut(silence) }) }

// CutOff returns nil if what Cut began has come about: the server has no routes; or, with silence, something that was sent has not arrived.
// Otherwise it is an [ErrNone] that says what is wrong. Ask before Join.
func (s *Server) CutOff(ctx context.Context, silence bool) error {
	if silence {
		held := int64(0)
		s.eachRoute(func(p *proxy) { held += p.held.Load() })
		if held == 0 {
			return fmt.Errorf("%w: nothing was sent that %s could have missed", ErrNone, s.Name)
		}
		return nil
	}
	var routes struct {
		Count *int `json:"num_routes"`
	}
	if err := getJSON(ctx, "http://"+s.monitor+"/routez", &routes); err != nil {
		return fmt.Errorf("%w: the routes of %s are not known: %w", ErrNone, s.Name, err)
	}
	if routes.Count == nil || *routes.Count > 0 {
		return fmt.Errorf("%w: %s was cut off and still has routes", ErrNone, s.Name)
	}
	return nil
}

// Join ends what Cut began.
func (s *Server) Join() { s.eachRoute((*proxy).join) }

// eachRoute calls do with every proxy that leads to the server or from it.
func (s *Server) eachRoute(do func(*proxy)) {
	for _, other := range s.rig.Servers {
		for _, p := range other.routes {
			if other == s || p.target == s.cluster {
				do(p)
			}
		}
	}
}

// HasDisk tells whether the server's store is one that Fill can fill.
func (s *Server) HasDisk() bool { return s.disk != nil }

// Fill leaves the server's store no room.
func (s *Server) Fill() error {
	s.filled, s.full = s.logged(), true
	return s.disk.fill()
}

// AwaitFull waits until the server has met the full disk, as its log since Fill says. If it does not in that time, that is an [ErrNone].
func (s *Server) AwaitFull(ctx context.Context, most time.Duration) error {
	return await(ctx, most, "the server meets the full disk", func() error {
		if len(s.logSince(s.filled, 1, "no space left", "out of space")) == 0 {
			return fmt.Errorf("%w: %s has not written", ErrNone, s.Name)
		}
		return nil
	})
}

// Drain gives the server's store its room back.
func (s *Server) Drain() error {
	s.full = false
	return s.disk.drain()
}

func (s *Server) close() error {
	if s.Process != nil {
		s.Kill()
	}
	for _, p := range s.routes {
		p.close()
	}
	if s.disk != nil {
		return s.disk.unmount()
	}
	return nil
}

// Leader returns the server that leads a stream, nil if none does or none answers.
func (r *Rig) Leader(ctx context.Context, stream string) *Server {
	info, err := r.streamInfo(ctx, stream)
	if err != nil {
		return nil
	}
	for _, s := range r.Servers {
		if fmt.Sprintf("n%d", s.Index) == info.Cluster.Leader {
			return s
		}
	}
	return nil
}

// StepDown has the leader of a stream give up, and waits until another leads it. If that does not come about, it is an [ErrNone].
func (r *Rig) StepDown(ctx context.Context, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	before := r.Leader(ctx, stream)
	if before == nil {
		return fmt.Errorf("%w: %s has no leader that answers", ErrNone, stream)
	}
	m, err := r.conn.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
	if err != nil {
		return fmt.Errorf("%w: no answer to stepping down from %s: %w", ErrNone, stream, err)
	}
	var answer struct {
		Success bool                          `json:"success"`
		Error   *struct{ Description string } `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil || !answer.Success || answer.Error != nil {
		return fmt.Errorf("%w: the leader of %s does not step down: %s", ErrNone, stream, m.Data)
	}
	return await(ctx, 10*time.Second, "another server leads "+stream, func() error {
		if after := r.Leader(ctx, stream); after == nil || after == before {
			return ErrNone
		}
		return nil
	})
}

// streamInfo is a part of what the leader of a stream says about it.
type streamInfo struct {
	Error   *struct{ Description string } `json:"error"`
	Cluster struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Name    string `json:"name"`
			Current bool   `json:"current"`
			Lag     uint64 `json:"lag"`
		} `json:"replicas"`
	} `json:"cluster"`
}

func (r *Rig) streamInfo(ctx context.Context, stream string) (*streamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m, err := r.conn.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err != nil {
		return nil, err
	}
	info := new(streamInfo)
	if err := json.Unmarshal(m.Data, info); err != nil {
		return nil, err
	}
	if info.Error != nil {
		return nil, errors.New(info.Error.Description)
	}
	return info, nil
}

// AwaitReplicas waits until every server has all of the streams.
func (r *Rig) AwaitReplicas(ctx context.Context, most time.Duration, streams ...string) error {
	return await(ctx, most, "every replica is current", func() error {
		for _, stream := range streams {
			info, err := r.streamInfo(ctx, stream)
			if err != nil {
				return fmt.Errorf("%s: %w", stream, err)
			}
			if len(info.Cluster.Replicas) != len(r.Servers)-1 {
				return fmt.Errorf("%s has %d replicas", stream, len(info.Cluster.Replicas))
			}
			for _, replica := range info.Cluster.Replicas {
				if !replica.Current || replica.Lag > 0 {
					return fmt.Errorf("%s on %s: current %t, lag %d", stream, replica.Name, replica.Current, replica.Lag)
				}
			}
		}
		return nil
	})
}
