package push

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
)

// Gateway is a Prometheus Pushgateway.
type Gateway struct {
	// URL is where it listens, http or https, without /metrics/job/…; a user and a password in it are what to log in with.
	URL string
	// Instance groups what is pushed, beside the job: the jobs of one instance replace one another's figures. Empty means the
	// host's name.
	Instance string
}

// Fact is a figure of a job that has ended. It is pushed as a gauge: a job's figures do not add up.
type Fact struct {
	Name  string // of the metric
	Help  string
	Value float64
}

// Validate returns an error that says what is wrong with the URL, or nil.
func (g Gateway) Validate() error {
	if !isURL(g.URL) {
		return errors.New("the address of the Pushgateway is no URL such as http://pushgateway:9091")
	}
	return nil
}

// Push sends the figures of a job, within 3 s, even if ctx has ended. What the gateway has of the same job and instance
// under the same names is replaced, and what it has under others stays: so a job that failed may leave the time of its
// last success untouched.
func (g Gateway) Push(ctx context.Context, job string, facts ...Fact) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	instance := g.Instance
	if instance == "" {
		instance = hostname()
	}
	to, err := url.Parse(g.URL)
	if err != nil {
		return g.Validate()
	}
	login := to.User
	to.User = nil // so that no error shows the password
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	pusher := push.New(to.String(), job).Grouping("instance", instance).Client(&http.Client{Transport: transport})
	if password, _ := login.Password(); login != nil {
		pusher.BasicAuth(login.Username(), password)
	}
	for _, f := range facts {
		gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: f.Name, Help: f.Help})
		gauge.Set(f.Value)
		pusher.Collector(gauge)
	}
	if err := pusher.AddContext(ctx); err != nil {
		return fmt.Errorf("push the figures of the job %s to the Pushgateway: %w", job, err)
	}
	return nil
}
