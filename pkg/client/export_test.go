package client

import "context"

// ClaimFor is Claim with another time to live.
var ClaimFor = claim

// Renew renews a claim at once.
func (n *NameClaim) Renew(ctx context.Context) error { return n.renew(ctx) }
