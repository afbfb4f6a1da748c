#!/bin/sh
# Produces to Holdfast with the nats command line (https://github.com/nats-io/natscli).
#
#   NATS_URL=nats://127.0.0.1:4222 ./nats-cli.sh
#
# --jetstream waits for the stream's acknowledgement: without it nats sends and does not look back. It ends with another code
# than 0 if there is none, and then the same line is to be run again: the header Nats-Msg-Id names the message, and a stream
# that has a message of that name from the last two minutes says "Duplicate: true" and stores nothing.
#
# --no-templates because the body is a template otherwise: "{{" in it would not stay as it is.
set -eu

publish() { # subject, message id, event
	nats publish --jetstream --no-templates --header "Nats-Msg-Id:$2" "$1" "$3"
}

# A hold that is open. It has a hold_id: so it counts once even if it is sent again after those two minutes.
publish hold.alice till-7.1 \
	'{"kind":"hold","token_id":"gold","holder_id":"alice","start":"2026-01-01T00:00:00Z","weight":"2.5","hold_id":"shift-1"}'

# It ends.
publish hold.alice till-7.2 \
	'{"kind":"release","token_id":"gold","holder_id":"alice","hold_id":"shift-1","end":"2026-01-01T01:00:00Z"}'

# A balance: from that instant on the holder has 10. In a subject each byte of an id but letters, digits, - and _ is = and two
# hexadecimal digits; in the event the id stands as it is.
publish hold.ann=40example=2Ecom till-7.3 \
	'{"kind":"balance","token_id":"silver","holder_id":"ann@example.com","at":1767225600,"weight":"10"}'

# Proof of History goes to poh.<node>. Such events have no id of their own: past the two minutes they would count again.
publish poh.n1 till-7.4 \
	'{"kind":"poh.issued","node":"n1","result":"success","latency":0.002}'
