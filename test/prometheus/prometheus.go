// Package prometheus reads what deploy/ has for Prometheus and Grafana: the rules, their unit tests, the dashboard. Its tests hold
// all of that against promtool, and against the runbooks; test/live holds it against what real processes show.
package prometheus

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Rule is one rule: an alert or a recording.
type Rule struct {
	Alert       string            `yaml:"alert,omitempty"`
	Record      string            `yaml:"record,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// Group is a named group of rules, which are evaluated one after the other.
type Group struct {
	Name  string `yaml:"name"`
	Rules []Rule `yaml:"rules"`
}

// RuleFiles are the files of rules, below the module's root.
var RuleFiles = []string{"deploy/prometheus/rules/recording.yml", "deploy/prometheus/rules/alerts.yml"}

// Dashboard is the file of the dashboard, below the module's root.
const Dashboard = "deploy/grafana/holdfast.json"

// Groups reads all groups of rules. Unknown fields are errors.
func Groups(root string) ([]Group, error) {
	var all []Group
	for _, name := range RuleFiles {
		file, err := os.Open(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		defer file.Close()
		var content struct {
			Groups []Group `yaml:"groups"`
		}
		decoder := yaml.NewDecoder(file)
		decoder.KnownFields(true)
		if err := decoder.Decode(&content); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		all = append(all, content.Groups...)
	}
	return all, nil
}

// Panel is what a dashboard's panel says of itself.
type Panel struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	Type        string `json:"type"`
	Datasource  Source `json:"datasource"`
	Targets     []struct {
		Expr       string `json:"expr"`
		Legend     string `json:"legendFormat"`
		Datasource Source `json:"datasource"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	GridPos struct{ H, W, X, Y int } `json:"gridPos"`
}

// Source is a reference to a data source.
type Source struct{ Type, UID string }

// Board is a dashboard.
type Board struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Panels     []Panel `json:"panels"`
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	} `json:"templating"`
}

// ReadDashboard reads the dashboard.
func ReadDashboard(root string) (*Board, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(Dashboard)))
	if err != nil {
		return nil, err
	}
	var b Board
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("read %s: %w", Dashboard, err)
	}
	return &b, nil
}

// Queries returns every query of the dashboard, by its panel's title, with Grafana's variables replaced by what they may stand for.
func (b *Board) Queries() map[string][]string {
	all := map[string][]string{}
	fill := strings.NewReplacer("$__rate_interval", "5m", "$stream", "HOLDS|POH")
	for _, p := range b.Panels {
		for _, t := range p.Targets {
			all[p.Title] = append(all[p.Title], fill.Replace(t.Expr))
		}
	}
	return all
}
