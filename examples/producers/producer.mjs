#!/usr/bin/env node
// Sends a journal of events to Holdfast over NATS, in numbered envelopes: each event counts once, however often it is sent and
// however long after.
//
//   npm ci
//   node producer.mjs --producer till-7 [--servers nats://127.0.0.1:4222] holds.ndjson
//
// The journal has one event a line, as JSON, and only ever grows. An event's number is its place among the journal's events of
// the same partition: so whoever sends the journal again, after a crash or by mistake, gives each event the number that it
// had, and Holdfast skips what it has. There is nothing to remember.
//
// That holds as long as the name belongs to this journal alone. Under a name that another journal has used, events would be
// taken for known and skipped; if a journal is begun anew, give it a name of its own, or a higher --epoch.

import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { JetStreamApiError, jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

import { envelope, pack, placeOf, row } from "./envelope.mjs";

const RETRY_FOR = 60_000; // milliseconds
const NEVER = [10054, 10097]; // codes of errors that sending again does not help: the message or its header is too large

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    servers: { type: "string", default: "nats://127.0.0.1:4222" },
    producer: { type: "string" },
    epoch: { type: "string", default: "0" },
    batch: { type: "string", default: "1000" }, // events an envelope, at most about 0.5 MiB; 65,536 and 1 MiB are permitted
    timeout: { type: "string", default: "5000" }, // milliseconds to wait for an acknowledgement before sending again
  },
});
if (!options.producer || positionals.length !== 1) {
  console.error("usage: node producer.mjs --producer NAME [--servers URL] [--epoch N] [--batch N] [--timeout MS] JOURNAL");
  process.exit(2);
}

/** The journal's events by subject, in their order. A line that is no event stops everything: its number would be another's. */
function divide(journal) {
  const lanes = new Map();
  journal.split("\n").forEach((line, i) => {
    if (line.trim() === "") return;
    try {
      const event = JSON.parse(line);
      pack([], row(event)); // throws if an envelope cannot carry it
      const { log, partition } = placeOf(event);
      const subject = `${log}.p.${partition}`;
      if (!lanes.has(subject)) lanes.set(subject, { log, events: [] });
      lanes.get(subject).events.push(event);
    } catch (error) {
      throw new Error(`${positionals[0]}:${i + 1}: ${error.message}; nothing was sent`);
    }
  });
  return lanes;
}

/** Publishes a message until it is acknowledged. It is the same message each time, so that it does not matter which one was stored. */
async function store(js, subject, data) {
  const deadline = Date.now() + RETRY_FOR;
  for (;;) {
    try {
      return await js.publish(subject, data, { timeout: Number(options.timeout) });
    } catch (error) {
      // All but those may pass: no answer (the acknowledgement was lost, NATS is away, or this user may not publish there), nobody
      // there (no stream takes the subject, or it has no leader), a full stream.
      if ((error instanceof JetStreamApiError && NEVER.includes(error.code)) || Date.now() > deadline) throw error;
      console.error(`${subject}: ${error.message}; sending it again`);
      await sleep(500);
    }
  }
}

/** Sends the events of one partition, one envelope after the other, so that they are stored in their order. */
async function sendLane(js, subject, { log, events }) {
  const batch = Math.max(1, Number(options.batch));
  for (let at = 0; at < events.length; at += batch) {
    const origin = { log, producer: options.producer, epoch: BigInt(options.epoch), first: at + 1 };
    await store(js, subject, envelope(origin, events.slice(at, at + batch)));
  }
}

const lanes = divide(await readFile(positionals[0], "utf8"));
const nc = await connect({ servers: options.servers, maxReconnectAttempts: -1 });
try {
  const js = jetstream(nc);
  await Promise.all(Array.from(lanes, ([subject, lane]) => sendLane(js, subject, lane)));
  const sent = Array.from(lanes.values()).reduce((n, lane) => n + lane.events.length, 0);
  console.log(`${sent} stored, in ${lanes.size} partitions`);
} finally {
  await nc.close();
}
