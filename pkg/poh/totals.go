package poh

// Totals is what many nodes did together. The zero value is that of none. Adding commutes: any way of
// spreading nodes over slots, and any order of adding them up, gives the same totals.
type Totals struct {
	Activity
	peers    Sum
	nodes    int
	reported int
}

// Add adds one node. It keeps nothing of the node's memory but texts.
func (t *Totals) Add(n *Node) {
	t.merge(&n.Activity)
	t.peers = t.peers.Add(Sum{Lo: n.peers})
	t.nodes++
	if n.reported {
		t.reported++
	}
}

// AddAll adds all nodes of a slot. Adding a node twice counts it twice.
func (t *Totals) AddAll(ns *Nodes) {
	for _, n := range ns.All() {
		t.Add(n)
	}
}

// Merge adds other totals, and leaves those as they are. It keeps nothing of their memory but texts.
func (t *Totals) Merge(o *Totals) {
	t.merge(&o.Activity)
	t.peers = t.peers.Add(o.peers)
	t.nodes += o.nodes
	t.reported += o.reported
}

// Nodes returns the number of nodes.
func (t *Totals) Nodes() int { return t.nodes }

// Peers returns the sum of the counts of peers that the nodes reported last, and how many nodes ever
// reported one.
func (t *Totals) Peers() (sum Sum, nodes int) { return t.peers, t.reported }
