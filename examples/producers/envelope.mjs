// The format of envelopes: events in the open form, as JSON has them, become canonical MessagePack. docs/producers.md
// specifies it; vectors.json has what this must give.

/** How many partitions each log has. */
export const PARTITIONS = 16;

const utf8 = new TextEncoder();

/** An id as one token of a subject: letters, digits, - and _ stay, every other byte of the UTF-8 text becomes =XX. */
export function encodeID(id) {
  return Array.from(utf8.encode(id), (b) => {
    const c = String.fromCharCode(b);
    return /[A-Za-z0-9_-]/.test(c) ? c : "=" + b.toString(16).toUpperCase().padStart(2, "0");
  }).join("");
}

/** FNV-1a of 32 bits of an encoded id. */
export function fnv1a(token) {
  let h = 0x811c9dc5;
  for (let i = 0; i < token.length; i++) h = Math.imul(h ^ token.charCodeAt(i), 0x01000193) >>> 0;
  return h;
}

/** Where an event goes: its log, and the partition of its holder or node. */
export function placeOf(event) {
  const log = "node" in event ? "poh" : "hold";
  return { log, partition: fnv1a(encodeID(log === "poh" ? event.node : event.holder_id)) % PARTITIONS };
}

/** An envelope of events of one log and partition; first is the number of the first of them. */
export function envelope({ log, producer, epoch, first }, events) {
  return Uint8Array.from(pack([], [1, log === "hold" ? 1 : 2, producer, epoch, first, events.map(row)]));
}

/** An event as it stands in an envelope. */
export function row(e) {
  switch (e.kind ?? "hold") {
    case "hold": {
      const start = instant(e.start);
      const named = [...(e.hold_id ? [e.hold_id] : []), ...(e.rev ? [e.rev] : [])]; // left out if empty or 0
      return [1, e.token_id, e.holder_id, start, e.end == null ? null : instant(e.end) - start, weight(e.weight), ...named];
    }
    case "release":
      return [2, e.token_id, e.holder_id, instant(e.end), ...(e.hold_id ? [e.hold_id] : [])];
    case "balance":
      return [3, e.token_id, e.holder_id, instant(e.at), weight(e.weight)];
    case "poh.issued":
      return [4, e.node, choice(["success", "failure"], e.result), latency(e.latency)];
    case "poh.verified":
      return [5, e.node, choice(["success", "failure"], e.result), latency(e.latency)];
    case "gc":
      return [6, e.node, choice(["minor", "major"], e.type)];
    case "peers":
      return [7, e.node, e.count];
    case "http":
      return [8, e.node, e.method, e.route, e.status, latency(e.latency)];
    case "grpc":
      return [9, e.node, e.method, code(e.code), latency(e.latency)];
    case "poh.sum":
      return [10, e.node, ...summed(e), e.count, e.latencies ? Uint8Array.from(Buffer.from(e.latencies, "base64")) : null];
  }
  throw new Error(`there is no kind ${JSON.stringify(e.kind)}`);
}

/** What the events of a sum have in common: their kind, and what names their series. */
function summed(e) {
  switch (e.of) {
    case "poh.issued":
    case "poh.verified": // without a result, the latencies alone count
      return [e.of === "poh.issued" ? 4 : 5, e.result ? choice(["success", "failure"], e.result) : 0];
    case "gc":
      return [6, choice(["minor", "major"], e.type)];
    case "http":
      return [8, e.method, e.route, e.status];
    case "grpc":
      return [9, e.method, code(e.code)];
  }
  throw new Error(`there are no sums of ${JSON.stringify(e.of)}`);
}

const CODES = [
  "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
  "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
];

const code = (value) => (Number.isInteger(value) ? value : choice(CODES, value) - 1);

function choice(names, name) {
  const i = names.indexOf(name);
  if (i < 0) throw new Error(`${JSON.stringify(name)} is none of ${names.join(", ")}`);
  return i + 1;
}

/** A weight in units of 10⁻⁹: an integer, or its big-endian bytes if it does not fit 64 bits. */
export function weight(value) {
  const n = units(value, 9, true);
  if (n < 1n << 64n) return n;
  const hex = n.toString(16);
  return Uint8Array.from(hex.padStart(hex.length + (hex.length % 2), "0").match(/../g), (pair) => parseInt(pair, 16));
}

/** An instant in Unix milliseconds: of seconds, or of RFC 3339. */
export function instant(value) {
  if (!/^\d{4}-\d\d-\d\dT/.test(value)) return units(value, 3);
  const ms = Date.parse(value);
  if (!(ms >= 0)) throw new Error(`${value} is not an instant from 1970 on`);
  return BigInt(ms);
}

/** A latency in nanoseconds, of seconds. */
export const latency = (value) => units(value, 9);

/**
 * A decimal as a whole number of units of 10^-digits, without ever being a float on the way. A number of JavaScript counts as
 * the shortest decimal that reads as it: 0.1 is 0.1. What is finer than a unit is cut off, or if exact refused.
 */
export function units(value, digits, exact = false) {
  const m = /^\+?(\d*)\.?(\d*)(?:e([+-]?\d{1,3}))?$/i.exec(String(value));
  if (!m || m[1] + m[2] === "") throw new Error(`${JSON.stringify(value)} is not a decimal from 0 on`);
  const exponent = Number(m[3] ?? 0) + digits - m[2].length; // of the last digit, in units
  const n = BigInt(m[1] + m[2]);
  if (exponent >= 0) return n * 10n ** BigInt(exponent);
  const divisor = 10n ** BigInt(-exponent);
  if (exact && n % divisor !== 0n) throw new Error(`${value} has more than ${digits} fraction digits, which cannot be kept exactly`);
  return n / divisor;
}

/** Appends a value to the bytes out, in its shortest form: null, a whole number, a text, bytes, or a list of those. */
export function pack(out, value) {
  if (value === null) {
    out.push(0xc0);
  } else if (typeof value === "number" || typeof value === "bigint") {
    packUint(out, BigInt(value)); // throws if it is not whole
  } else if (typeof value === "string") {
    const bytes = utf8.encode(value);
    packLength(out, bytes.length, [[32, 0xa0], [1 << 8, 0xd9, 1], [1 << 16, 0xda, 2], [2 ** 32, 0xdb, 4]]);
    out.push(...bytes);
  } else if (value instanceof Uint8Array) {
    packLength(out, value.length, [[1 << 8, 0xc4, 1], [1 << 16, 0xc5, 2], [2 ** 32, 0xc6, 4]]);
    out.push(...value);
  } else if (Array.isArray(value)) {
    packLength(out, value.length, [[16, 0x90], [1 << 16, 0xdc, 2], [2 ** 32, 0xdd, 4]]);
    for (const each of value) pack(out, each);
  } else {
    throw new Error(`${JSON.stringify(value)} has no place in an envelope`);
  }
  return out;
}

function packUint(out, n) {
  if (n < 0n || n >= 1n << 64n) throw new Error(`${n} does not fit 64 bits`);
  if (n < 128n) return void out.push(Number(n));
  const width = n < 1n << 8n ? 1 : n < 1n << 16n ? 2 : n < 1n << 32n ? 4 : 8;
  out.push(0xcc + Math.log2(width), ...bigEndian(n, width));
}

/** Appends the shortest of the headers that can say a length: [limit, code] has it in the code, [limit, code, width] behind it. */
function packLength(out, length, headers) {
  const [, code, width] = headers.find(([limit]) => length < limit);
  if (width) out.push(code, ...bigEndian(BigInt(length), width));
  else out.push(code | length);
}

function bigEndian(n, width) {
  return Array.from({ length: width }, (_, i) => Number((n >> BigInt(8 * (width - 1 - i))) & 0xffn));
}
