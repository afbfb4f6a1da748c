package jetstream

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MarkerTTL is how long the buckets PRODUCERS and WORKERS keep the marker of an
// expired or deleted key, and so how long a watch may be interrupted without missing one.
const MarkerTTL = time.Hour

// duplicateWindow is how long a stream remembers a Nats-Msg-Id: the server's
// default, written out so that it is compared.
const duplicateWindow = 2 * time.Minute

// policyPrefix marks the part of a stream's metadata that is Holdfast's policy.
const policyPrefix = "holdfast."

// Declaration is what [Client.Apply] makes true. Everything else about the
// streams and buckets is fixed by this package.
type Declaration struct {
	// Replicas is the number of servers that keep each stream, 1 to 5. Zero
	// means 1 for what is created, and whatever it is for what exists.
	Replicas int

	// Policy is recorded with each log and given back by [Client.Policy]. Its
	// meaning is the caller's. An entry that differs, is missing, or is there
	// without being declared is drift. A nil policy declares none: nothing is
	// recorded on creation, and whatever is recorded is accepted.
	Policy map[string]string
}

// object is one declared stream, or the stream of one declared bucket.
type object struct {
	label  string // as people know it: "stream HOLDS", "bucket PRODUCERS"
	config jetstream.StreamConfig
	policy map[string]string // nil: not declared
}

// Streams returns the names of all streams that [Client.Apply] makes, those that
// buckets are kept in included, in the order of creation.
func Streams() []string {
	var names []string
	for _, o := range (Declaration{}).objects() {
		names = append(names, o.config.Name)
	}
	return names
}

// objects returns everything that is declared, in the order of creation.
func (d Declaration) objects() []object {
	var all []object
	for _, log := range Logs() {
		all = append(all, object{"stream " + log.Stream, logConfig(log), d.Policy})
	}
	all = append(all, object{"stream " + Rejected, rejectedConfig(), nil}, object{"stream " + Checkpoints, checkpointsConfig(), nil})
	for _, log := range Logs() {
		all = append(all, object{"bucket " + log.Bucket, stateConfig(log.Bucket), nil})
	}
	for _, bucket := range []string{Producers, Workers} {
		all = append(all, object{"bucket " + bucket, claimsConfig(bucket), nil})
	}
	all = append(all, object{"bucket " + Retries, stateConfig(Retries), nil})
	for i := range all {
		all[i].config.Replicas = d.Replicas
		all[i].config.Metadata = policyMetadata(all[i].policy)
	}
	return all
}

// logConfig declares the stream of a log. It is evidence: no message in it can be
// deleted, and the server lets no one take that back. It can be purged, so that
// it may forget what an archive keeps and every partition has folded; by whom
// is for the servers' permissions to say, and it is the archiver alone.
func logConfig(log Log) jetstream.StreamConfig {
	c := baseConfig(log.Stream)
	c.Subjects = []string{log.Subject("*")}
	for p := range Partitions {
		c.Subjects = append(c.Subjects, log.PartitionSubject(p))
	}
	c.SubjectTransform = &jetstream.SubjectTransformConfig{
		Source:      log.Subject("*"),
		Destination: log.Prefix + ".p.{{partition(" + strconv.Itoa(Partitions) + ",1)}}",
	}
	c.DenyDelete = true
	return c
}

// rejectedConfig declares the stream of refused events. They are evidence too,
// and nothing of them can be purged either.
func rejectedConfig() jetstream.StreamConfig {
	c := baseConfig(Rejected)
	c.Subjects = []string{rejectedPrefix + ".>"}
	c.DenyDelete = true
	c.DenyPurge = true
	c.AllowAtomicPublish = true
	return c
}

// stateConfig declares a bucket that is written by atomic batches. It is the
// bucket's stream that is declared, not the bucket: the key-value interface of
// NATS has no setting for atomic batches and would switch them off.
func stateConfig(bucket string) jetstream.StreamConfig {
	c := bucketConfig(bucket)
	c.AllowAtomicPublish = true
	return c
}

// claimsConfig declares a bucket whose keys may expire. It keeps one revision
// of a key: with more, an expiry would bring back an older value.
func claimsConfig(bucket string) jetstream.StreamConfig {
	c := bucketConfig(bucket)
	c.AllowMsgTTL = true
	c.SubjectDeleteMarkerTTL = MarkerTTL
	return c
}

// bucketConfig is what makes a stream a bucket of history 1 for every NATS
// key-value client.
func bucketConfig(bucket string) jetstream.StreamConfig {
	c := baseConfig(bucketStream(bucket))
	c.Subjects = []string{"$KV." + bucket + ".>"}
	c.MaxMsgsPerSubject = 1
	c.AllowRollup = true
	c.DenyDelete = true
	return c
}

// baseConfig is what all have in common, with the server's defaults written
// out so that they are compared as well.
func baseConfig(name string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              name,
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        MaxMessage,
		Duplicates:        duplicateWindow,
		AllowDirect:       true,
	}
}

// policyMetadata writes a policy as a stream's metadata.
func policyMetadata(policy map[string]string) map[string]string {
	metadata := make(map[string]string, len(policy))
	for k, v := range policy {
		metadata[policyPrefix+k] = v
	}
	return metadata
}

// metadataPolicy reads the policy in a stream's metadata. What the server and
// others note there is not part of it.
func metadataPolicy(metadata map[string]string) map[string]string {
	policy := make(map[string]string)
	for k, v := range metadata {
		if name, ours := strings.CutPrefix(k, policyPrefix); ours {
			policy[name] = v
		}
	}
	return policy
}
