// Holds envelope.mjs against the test vectors. Run it by: node --test

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { encodeID, envelope, fnv1a, instant, latency, pack, placeOf, row, units, weight } from "./envelope.mjs";

const vectors = JSON.parse(readFileSync(new URL("vectors.json", import.meta.url), "utf8"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");

test("ids", () => {
  for (const v of vectors.ids) {
    assert.equal(encodeID(v.id), v.encoded);
    assert.equal(fnv1a(v.encoded), v.fnv1a);
    assert.deepEqual(placeOf({ holder_id: v.id }), { log: "hold", partition: v.partition });
  }
});

test("quantities", () => {
  for (const v of vectors.weights) assert.deepEqual([units(v.text, 9, true), hex(pack([], weight(v.text)))], [BigInt(v.units), v.msgpack]);
  for (const v of vectors.instants) assert.deepEqual([instant(v.text), hex(pack([], instant(v.text)))], [BigInt(v.units), v.msgpack]);
  for (const v of vectors.latencies) assert.deepEqual([latency(v.text), hex(pack([], latency(v.text)))], [BigInt(v.units), v.msgpack]);
  assert.equal(weight(0.1), 100_000_000n);
  for (const bad of [0.1 + 0.2, "", ".", "-1", "1e", "NaN", Infinity]) assert.throws(() => weight(bad), Error, String(bad));
});

test("events", () => {
  for (const v of vectors.events) {
    assert.equal(hex(pack([], row(v.open))), v.in_batch);
    const { log, partition } = placeOf(v.open);
    assert.equal(log, v.log);
    assert.equal(partition, fnv1a(v.subject.split(".")[1]) % 16);
  }
  for (const v of vectors.read_alike) if (v.json) assert.equal(hex(pack([], row(v.json))), vectors.events[v.same_as].in_batch);
  assert.throws(() => row({ kind: "holds" }));
  assert.throws(() => row({ kind: "gc", node: "n", type: "medium" }));
});

test("envelopes", () => {
  for (const v of vectors.envelopes) {
    const origin = { log: v.log, producer: v.producer, epoch: BigInt(v.epoch), first: BigInt(v.first) };
    assert.equal(hex(envelope(origin, v.events)), v.msgpack);
    assert.equal(`${v.log}.p.${placeOf(v.events[0]).partition}`, v.subject);
  }
});

test("forms of every length", () => {
  const heads = [
    ["", "a0"], ["x".repeat(31), "bf"], ["x".repeat(32), "d920"], ["x".repeat(255), "d9ff"], ["x".repeat(256), "da0100"], ["x".repeat(65536), "db00010000"],
    [new Uint8Array(255), "c4ff"], [new Uint8Array(256), "c50100"], [new Uint8Array(65536), "c600010000"],
    [Array(15).fill(null), "9f"], [Array(16).fill(null), "dc0010"], [Array(65535).fill(null), "dcffff"], [Array(65536).fill(null), "dd00010000"],
  ];
  for (const [value, head] of heads) assert.equal(hex(pack([], value).slice(0, head.length / 2)), head);
  for (const bad of [-1, 1n << 64n, 1.5, true, undefined, {}]) assert.throws(() => pack([], bad));
});
