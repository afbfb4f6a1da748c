#!/usr/bin/env python3
"""Verifies a file that `holdfast prove` has written, with Python's standard library alone.

    python3 verify.py alice.proof --key ledger.example.org+a5c3...+AQ... [--witness KEY] [--at TIME] [--json]

It does what `holdfast verify` does and shares no code with it: it was written from docs/audit.md, "The formats, byte by byte",
docs/state-format.md and docs/producers.md. A key is the text of a public key, or a file that has it.

Exit code: 0 the proof holds, 1 it does not (the reason is told), 2 that could not be told (no file, no key, wrong usage).
"""

import argparse
import base64
import binascii
import datetime
import hashlib
import json
import os
import re
import struct
import sys
import unicodedata

MAX_TIME = 253402300799999  # the last millisecond of the year 9999
MAX_FILE = 256 << 20  # bytes of a proof
MAX_KEY = 4 << 10  # and of a file with a key
OPEN = None  # the end of a hold that has none


class Refused(Exception):
    """The file proves nothing."""


class CannotTell(Exception):
    """What was asked cannot be answered, whatever the file is."""


def demand(ok, reason):
    if not ok:
        raise Refused(reason)


# --- Ed25519, RFC 8032: the curve -x² + y² = 1 + d·x²·y² over the integers modulo p, with points as (X, Y, Z, T),
# where x = X/Z, y = Y/Z and x·y = T/Z.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493  # the order of the base point
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def add(p, q):
    """Section 5.1.4; doubling is adding a point to itself."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(n, p):
    result = NEUTRAL
    while n > 0:
        if n & 1:
            result = add(result, p)
        p = add(p, p)
        n >>= 1
    return result


def point(y, odd):
    """The point with that y, and an odd or even x; None if there is none. Section 5.1.3."""
    if y >= P:
        return None
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - xx) % P or (x == 0 and odd):
        return None
    if x & 1 != odd:
        x = P - x
    return x, y, 1, x * y % P


def encode_point(p):
    inverse = pow(p[2], P - 2, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = point(4 * pow(5, P - 2, P) % P, 0)


def ed25519(public, message, signature):
    """Tells whether the signature is one of the message. Section 5.1.7."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key = int.from_bytes(public, "little")
    a = point(key & (1 << 255) - 1, key >> 255)
    s = int.from_bytes(signature[32:], "little")
    if a is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], a[2], P - a[3])
    return encode_point(add(multiply(s, BASE), multiply(k, minus_a))) == signature[:32]


# --- Keys and signed notes: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-cosignature.

SIGNS, COSIGNS = 1, 4  # types of keys


def unbase64(text):
    """The bytes of a text in base64, which has one form: with padding, and without bits behind the end."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise Refused(f"{text[:60]!r} is not base64: {e}") from e
    demand(base64.b64encode(data).decode() == text, f"{text[:60]!r} is not base64 in its one form")
    return data


def key_id(name, kind, public):
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def read_key(text, kind):
    """A public key, NAME+ID+BASE64 or a file that has it: its name and bytes. What may be a secret key is never shown."""
    what = "it"
    if not re.search(r"\+[0-9a-f]{8}\+", text):
        what = text
        try:
            with open(text, "rb") as file:
                data = file.read(MAX_KEY + 1)
            text = data.decode().strip()
        except (OSError, UnicodeError) as e:
            raise CannotTell(f"the key: {e}") from e
        if len(data) > MAX_KEY:
            raise CannotTell(f"the key: {what} has over {MAX_KEY} bytes: it is no file of a key")
    if "PRIVATE+KEY+" in text:
        raise CannotTell(f"the key: {what} is a secret key; its public key was written beside it")
    match = re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+(.+)", text)
    try:
        data = unbase64(match[3]) if match else b""
    except Refused as e:
        raise CannotTell(f"the key: {what} is not a public key: its last part is not base64") from e
    if len(data) != 33 or data[0] != kind or key_id(match[1], kind, data[1:]).hex() != match[2]:
        raise CannotTell(f"the key: {what} is not a public key of type {kind}")
    return match[1], data[1:]


def read_note(note):
    """The text of a signed note, and its signatures: bytes by name and id of the key."""
    raw = note.encode()
    demand(len(raw) <= 64 << 10, "the checkpoint is too long")
    demand(not re.search(r"[\x00-\x09\x0b-\x1f]", note), "the checkpoint has a control character")
    head, blank, tail = note.rpartition("\n\n")
    demand(blank and tail.endswith("\n"), "the checkpoint is no signed note")
    signatures = {}
    lines = tail[:-1].split("\n")
    demand(len(lines) <= 100, "the checkpoint has over 100 signatures")
    for line in lines:
        demand(line.startswith("— "), "a line of signature is malformed")
        name, _, encoded = line[2:].partition(" ")
        demand(name and "+" not in name and not any(c.isspace() for c in name), "the name in a line of signature is none")
        data = unbase64(encoded)
        demand(len(data) >= 5, "a signature is too short")
        demand((name, data[:4]) not in signatures, "one key has signed twice")
        signatures[name, data[:4]] = data[4:]
    return head + "\n", signatures


def decimal(text, low, high, what):
    demand(re.fullmatch(r"0|[1-9][0-9]{0,19}", text) and low <= int(text) <= high, f"the checkpoint's {what}, {text[:40]!r}, is no number in its range")
    return int(text)


class Statement:
    """What is signed about a partition: the seven lines of a checkpoint."""

    def __init__(self, text):
        demand(len(text.encode()) <= 8 << 10, "the checkpoint is too long")
        lines = text.split("\n")
        demand(len(lines) == 8 and lines[7] == "", "the checkpoint has not 7 lines")
        self.origin = lines[0]
        parts = self.origin.rsplit("/", 3)
        demand(len(parts) == 4 and re.fullmatch(r"[!-~]+", parts[1]) and "+" not in parts[1], "the checkpoint's first line is not name/stream/created/partition")
        self.name, self.stream = parts[:2]
        decimal(parts[2], 1, 2**63 - 1, "time of creation")
        self.partition = decimal(parts[3], 0, 15, "partition")
        self.size = decimal(lines[1], 0, 2**64 - 1, "number of messages")
        self.messages = self.hash(lines[2])
        self.sequence = decimal(self.value(lines[3], "sequence"), self.size, 2**64 - 1, "sequence")
        self.clock = decimal(self.value(lines[4], "clock"), 0, MAX_TIME, "clock")
        self.states = self.hash(self.value(lines[5], "state"))
        demand(self.size > 0 or self.messages == hashlib.sha256().digest(), "the root of no messages is another")
        first, *settings = lines[6].split(" ")
        demand(first == "policy" and all(re.fullmatch(r"[!-<>-~]+=[!-<>-~]+", s) for s in settings), "the checkpoint's policy is malformed")
        self.policy = dict(s.split("=") for s in settings)
        demand(settings == [f"{name}={value}" for name, value in sorted(self.policy.items())], "the checkpoint's policy is not in its order")

    @staticmethod
    def value(line, label):
        demand(line.startswith(label + " "), f"a line of the checkpoint does not begin with {label}")
        return line[len(label) + 1:]

    @staticmethod
    def hash(text):
        data = unbase64(text)
        demand(len(data) == 32, "a root of the checkpoint has not 32 bytes")
        return data


def open_checkpoint(note, key):
    """The statement of a checkpoint, after the operator's signature was verified."""
    name, public = key
    text, signatures = read_note(note)
    statement = Statement(text)
    demand(statement.name == name, f"the checkpoint is of {statement.name!r}, the key of {name!r}")
    signature = signatures.get((statement.origin, key_id(statement.origin, SIGNS, public)))
    demand(signature is not None, "the checkpoint is not signed by this key")
    demand(ed25519(public, text.encode(), signature), "the checkpoint's signature is wrong")
    return statement


def cosigned_at(note, key):
    """When a witness has cosigned, in Unix seconds."""
    name, public = key
    text, signatures = read_note(note)
    signature = signatures.get((name, key_id(name, COSIGNS, public)))
    demand(signature is not None, f"the witness {name} has not cosigned the checkpoint")
    demand(len(signature) == 72, f"the cosignature of {name} has not 72 bytes")
    (at,) = struct.unpack(">Q", signature[:8])
    message = f"cosignature/v1\ntime {at}\n{text}".encode()
    demand(at <= MAX_TIME // 1000 and ed25519(public, message, signature[8:]), f"the cosignature of {name} is wrong")
    return at


# --- Merkle trees: RFC 6962, section 2.1; the way from a leaf to the root: RFC 9162, section 2.1.3.2.

def leaf_hash(data):
    return hashlib.sha256(b"\x00" + data).digest()


def root_of(leaf, index, size, path):
    """The root that a path leads to from the leaf at that index of a tree of that size."""
    demand(0 <= index < size, "a leaf's index is behind the end of its tree")
    at, last, root = index, size - 1, leaf
    for beside in path:
        demand(last > 0, "a path is too long")
        if at & 1 or at == last:
            root = hashlib.sha256(b"\x01" + beside + root).digest()
            while not at & 1 and at > 0:
                at, last = at >> 1, last >> 1
        else:
            root = hashlib.sha256(b"\x01" + root + beside).digest()
        at, last = at >> 1, last >> 1
    demand(last == 0, "a path is too short")
    return root


# --- MessagePack in its shortest forms: what Holdfast itself writes.

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        demand(self.at + n <= len(self.data), "MessagePack that ends too early")
        self.at += n
        return self.data[self.at - n:self.at]

    def next(self):
        return self.data[self.at] if self.at < len(self.data) else None

    def number(self, n, least):
        value = int.from_bytes(self.take(n), "big")
        demand(value >= least, "MessagePack that is not in its shortest form")
        return value

    def uint(self, limit=2**64 - 1):
        code = self.take(1)[0]
        if code <= 0x7f:
            value = code
        else:
            demand(0xcc <= code <= 0xcf, "MessagePack: an unsigned integer is missing")
            n = 1 << (code - 0xcc)
            value = self.number(n, 0x80 if n == 1 else 1 << 4 * n)
        demand(value <= limit, f"{value} is over {limit}")
        return value

    def text(self):
        code = self.take(1)[0]
        if 0xa0 <= code <= 0xbf:
            return self.take(code - 0xa0)
        demand(0xd9 <= code <= 0xdb, "MessagePack: a text is missing")
        n = 1 << (code - 0xd9)
        return self.take(self.number(n, 0x20 if n == 1 else 1 << 4 * n))

    def bytes(self):
        code = self.take(1)[0]
        demand(0xc4 <= code <= 0xc6, "MessagePack: a byte string is missing")
        n = 1 << (code - 0xc4)
        return self.take(self.number(n, 0 if n == 1 else 1 << 4 * n))

    def array(self):
        code = self.take(1)[0]
        if 0x90 <= code <= 0x9f:
            return code - 0x90
        demand(0xdc <= code <= 0xdd, "MessagePack: an array is missing")
        n = 2 << (code - 0xdc)
        return self.number(n, 0x10 if n == 2 else 0x10000)

    def nil(self):
        if self.next() != 0xc0:
            return False
        self.at += 1
        return True

    def large(self, most):
        """An integer, or its big-endian bytes where it does not fit 64 bits."""
        if self.next() not in (0xc4, 0xc5, 0xc6):
            return self.uint()
        data = self.bytes()
        demand(9 <= len(data) <= most and data[0] != 0, "an integer of bytes that is not in its shortest form")
        return int.from_bytes(data, "big")

    def time(self, limit=MAX_TIME):
        return self.uint(limit)

    def end(self):
        return OPEN if self.nil() else self.time()

    def close(self):
        demand(self.at == len(self.data), "bytes follow the end")


# --- The holder's state, docs/state-format.md, and its score.

class Policy:
    """What the signed policy says of scores; times in milliseconds."""

    def __init__(self, recorded):
        self.recorded = recorded
        self.ttl, self.window, self.step = map(self.duration, ("ttl", "window", "window_step"))
        for name, least in (("max_holds_per_holder", 1), ("max_tokens_per_holder", 1), ("max_bytes_per_slot", 1024)):
            text = recorded.get(name, "")
            demand(re.fullmatch(r"[1-9][0-9]{0,17}", text) and int(text) >= least, f"the policy says {text!r} of {name}")
        demand(recorded.get("ttl_open_holds") in ("true", "false"), "the policy does not say whether open holds expire")
        self.ttl_open = recorded["ttl_open_holds"] == "true"
        demand(self.ttl <= MAX_TIME and (self.ttl > 0 or not self.ttl_open), "the policy's TTL is none")
        self.steps = 0
        if self.window or self.step:
            demand(self.window and self.step and self.window % self.step == 0 and self.window // self.step <= 1000, "the policy's window is none")
            self.steps = self.window // self.step

    def duration(self, name):
        """A length of time as 1h30m0s, 1.5s, 500ms or 0s."""
        text = self.recorded.get(name, "")
        match = re.fullmatch(r"(?:(?:([0-9]+)h)?([0-9]+)m)?([0-9]+)(?:\.([0-9]{1,3}))?s|([0-9]+)ms", text)
        demand(match and len(text) < 30, f"the policy says {text[:40]!r} of {name}, which is no length of time")
        hours, minutes, seconds, fraction, ms = match.groups()
        if ms:
            return int(ms)
        return ((int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds)) * 1000 + int((fraction or "").ljust(3, "0"))


PLAIN, NAMED, BALANCE, WAITING = 1, 2, 3, 4  # forms of an entry


class Member:
    """A holder's state."""

    def __init__(self, data, policy):
        self.policy = policy
        r = Reader(data)
        demand(r.array() == 7, "a state has 7 parts")
        self.id = r.text()
        demand(self.id != b"", "a state of nobody")
        self.finished, self.through, self.last, self.holds = r.large(32), r.time(), r.time(), r.uint()
        self.entries = [self.entry(r) for _ in range(r.array())]
        if not r.nil():
            demand(policy.steps > 0 and r.array() == policy.steps + 1, "a window that the policy does not have")
            r.uint(MAX_TIME)
            for _ in range(policy.steps):
                r.large(32)
        r.close()

    @staticmethod
    def entry(r):
        parts, form = r.array(), r.uint(WAITING)
        demand(parts == {PLAIN: 5, NAMED: 10, BALANCE: 4, WAITING: 9}.get(form), "an entry of another number of parts")
        r.text()
        if form == WAITING:
            r.time(), r.text(), r.time(), r.uint(), r.uint(65536), r.time(), r.text()
            return form, 0, OPEN, 0
        start = r.time()
        end = OPEN if form == BALANCE else r.end()
        weight = r.large(16)
        if form == NAMED:
            r.text(), r.time(), r.end(), r.end(), r.uint(2**32 - 1)
        return form, start, end, weight

    def expiry(self):
        """The last instant at which the holder counts; None if it does not expire."""
        if not self.policy.ttl:
            return None
        latest = max(self.last, self.through)
        for form, _, end, weight in self.entries:
            if form == WAITING:
                continue
            if end is not OPEN:
                latest = max(latest, end)
            elif (form != BALANCE or weight) and not self.policy.ttl_open:
                return None
        expiry = latest + self.policy.ttl
        return expiry if expiry < MAX_TIME else None

    def at(self, t):
        """Score (in 10⁻¹²), rate (in 10⁻⁹) and number of open holds at an instant; None if the holder does not count then."""
        expiry = self.expiry()
        if self.holds == 0 or expiry is not None and t > expiry:
            return None
        score, rate, open_holds = self.finished, 0, 0
        for form, start, end, weight in self.entries:
            if form == WAITING or start > t:
                continue
            if end is OPEN or end > t:
                rate += weight
            if end is OPEN and (form != BALANCE or weight):
                open_holds += 1
            score += weight * max(0, (t if end is OPEN else min(end, t)) - start)
        return score, rate, open_holds


def shortest(n, digits):
    """n·10^-digits as a plain decimal, exactly."""
    whole, fraction = divmod(n, 10**digits)
    return f"{whole}.{fraction:0{digits}}".rstrip("0").rstrip(".")


def place(holder):
    """The partition and slot of a holder: by the FNV-1a hash, in 32 bits, of its encoded id."""
    h = 2166136261
    for byte in holder.encode():
        plain = chr(byte).isalnum() and byte < 128 or byte in b"-_"
        for c in bytes([byte]) if plain else b"=%02X" % byte:
            h = (h ^ c) * 16777619 & 0xffffffff
    return h % 16, h // 16 % 256


# --- What a message says: docs/producers.md. Only who holds is looked at, but a message that is malformed anywhere has no events.

def number(text, digits):
    """A decimal number of at least 0 as an integer in units of 10^-digits, and whether nothing was cut off."""
    match = re.fullmatch(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", text)
    demand(match and len(text) <= 128 and (match[2] or match[3]), f"{text[:40]!r} is not a decimal number")
    value = int(match[2] + (match[3] or "") or "0")
    demand(value == 0 or match[1] != "-", "a negative number")
    shift = max(-1280, min(1280, int(match[4] or 0))) - len(match[3] or "") + digits
    value, rest = (value * 10**shift, 0) if shift >= 0 else divmod(value, 10**-shift)
    demand(value < 2**128, "a number that is too large")
    return value, rest == 0


def instant(text):
    """Unix milliseconds of Unix seconds or RFC 3339."""
    if len(text) >= 11 and text[4] == "-":
        match = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))", text)
        demand(match, f"{text[:60]!r} is not an instant in RFC 3339")
        try:
            at = datetime.datetime(*map(int, match.groups()[:6]))
        except ValueError as e:
            raise Refused(f"{text[:60]!r} is no instant: {e}") from e
        ms = (at - datetime.datetime(1970, 1, 1)) // datetime.timedelta(milliseconds=1) + int((match[7] or "")[:3].ljust(3, "0"))
        if match[9]:
            ms -= (1 if match[9] == "+" else -1) * (int(match[10]) * 60 + int(match[11])) * 60000
    else:
        ms = number(text, 3)[0]
    demand(0 <= ms <= MAX_TIME, f"{text[:60]!r} is outside of the years 1970 to 9999")
    return ms


def check_id(data):
    """An id: UTF-8 in normal form C, 1 to 128 bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise Refused("an id that is not UTF-8") from e
    demand(0 < len(data) <= 128 and unicodedata.is_normalized("NFC", text), f"{text[:40]!r} is no id")


def holders_in(data):
    """The holder of each event of a message, in bytes."""
    first = data.lstrip(b" \t\r\n")[:1]
    if first == b"{":
        return [open_event(json_fields(data))]
    if data and (data[0] & 0xf0 == 0x80 or data[0] in (0xde, 0xdf)):
        return [open_event(msgpack_fields(data))]
    return envelope(data)


def envelope(data):
    r = Reader(data)
    demand(r.array() == 6 and r.uint() == 1 and r.uint() == 1, "not an envelope of holds")
    producer, epoch, first, n = r.text(), r.uint(), r.uint(), r.array()
    demand(1 <= n <= 65536 and first <= 2**64 - 1 - 65536, "an envelope of no events, or too many")
    if producer or epoch or first:
        demand(first > 0, "numbers begin with 1")
        check_id(producer)
    holders = []
    for _ in range(n):
        parts, kind = r.array(), r.uint(255)
        r.text()
        holders.append(r.text())
        most = {1: 8, 2: 5, 3: 5}.get(kind)
        least = {1: 6, 2: 4, 3: 5}.get(kind)
        demand(least is not None, "an event of another kind")
        r.time(2 * MAX_TIME)
        if kind == 1 and not r.nil():
            r.time()
        if kind != 2:
            r.large(16)
        demand(least <= parts <= most, "an event of another number of fields")
        if parts > least:
            demand(r.text() != b"", "an empty hold id")
        if parts > least + 1:
            demand(r.uint(2**32 - 1) > 0, "a rev of 0")
    r.close()
    return holders


TEXT, NUMBER, NULL, OTHER = range(4)  # forms of a scalar


def json_fields(data):
    """The fields of a flat JSON object: names, and values with their forms."""
    class Number(str):
        pass

    def pairs(list_of):
        return list_of

    def refuse(_):
        raise ValueError("no JSON")

    try:
        items = json.loads(data.decode(), object_pairs_hook=pairs, parse_int=Number, parse_float=Number, parse_constant=refuse)
    except (ValueError, RecursionError) as e:
        raise Refused(f"a message that is not JSON: {e}") from e
    fields = []
    for name, value in items:
        demand(not isinstance(value, list), "an event that is not flat")
        if isinstance(value, Number):
            fields.append((name, str(value), NUMBER))
        elif isinstance(value, str):
            fields.append((name, value, TEXT))
        else:
            fields.append((name, {None: "null", True: "true", False: "false"}[value], NULL if value is None else OTHER))
    for name, value, _ in fields:
        demand(not re.search("[\ud800-\udfff]", name + value), "half of a surrogate pair")
    return fields


def msgpack_fields(data):
    """The fields of a flat MessagePack map, however it is encoded."""
    r = Reader(data)

    def length(code, fixed, low, codes):
        return code - fixed if code <= low else int.from_bytes(r.take(codes[code]), "big")

    def scalar():
        code = r.take(1)[0]
        if 0xa0 <= code <= 0xbf or code in (0xd9, 0xda, 0xdb):
            try:
                return r.take(length(code, 0xa0, 0xbf, {0xd9: 1, 0xda: 2, 0xdb: 4})).decode(), TEXT
            except UnicodeDecodeError as e:
                raise Refused("a text that is not UTF-8") from e
        if code <= 0x7f:
            return str(code), NUMBER
        if code >= 0xe0:
            return str(code - 256), NUMBER
        if 0xcc <= code <= 0xcf or 0xd0 <= code <= 0xd3:
            return str(int.from_bytes(r.take(1 << (code & 3)), "big", signed=code >= 0xd0)), NUMBER
        if code == 0xca:
            return float_text(struct.unpack(">f", r.take(4))[0], True), NUMBER
        if code == 0xcb:
            return float_text(struct.unpack(">d", r.take(8))[0], False), NUMBER
        if code in (0xc0, 0xc2, 0xc3):
            return {0xc0: ("null", NULL), 0xc2: ("false", OTHER), 0xc3: ("true", OTHER)}[code]
        raise Refused(f"a value of type {code:#04x}")

    fields = []
    n = length(r.take(1)[0], 0x80, 0x8f, {0xde: 2, 0xdf: 4})
    demand(n <= 16, "too many fields")
    for _ in range(n):
        name, form = scalar()
        demand(form == TEXT, "a name that is no text")
        fields.append((name, *scalar()))
    r.close()
    return fields


def float_text(value, single):
    """The whole number that a float is, or the shortest decimal that reads as it."""
    if value != value or value in (float("inf"), float("-inf")):
        return "not a number"
    if value == int(value):
        return f"{value:.0f}"
    if not single:
        return repr(value)
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.pack(">f", float(text)) == struct.pack(">f", value):
            break
    return text


def open_event(fields):
    """The holder of an event in the open form."""
    names = [name for name, _, _ in fields]
    demand(len(names) <= 16 and len(set(names)) == len(names), "a field that comes twice, or too many")
    given = {name: (value, form) for name, value, form in fields if form != NULL}
    demand(given.get("v", ("1", NUMBER)) == ("1", NUMBER), "another version")
    kind = given.get("kind", ("hold", TEXT))[0]
    known = {"hold": {"hold_id", "start", "end", "weight", "rev"}, "release": {"hold_id", "end"}, "balance": {"at", "weight"}}
    demand(kind in known, f"the kind {kind[:40]!r}")
    demand(set(names) <= known[kind] | {"v", "kind", "token_id", "holder_id"}, "an unknown field")
    for name in {"hold": ("start", "weight"), "release": ("end",), "balance": ("at", "weight")}[kind]:
        demand(name in given, f"{name} is missing")
    for name in ("token_id", "holder_id", "hold_id"):
        value, form = given.get(name, ("", TEXT))
        demand(form == TEXT, f"{name} is no text")
        if name != "hold_id" or value:
            check_id(value.encode())
    times = {name: instant(given[name][0]) for name in ("start", "end", "at") if name in given}
    demand(kind != "hold" or times.get("end", MAX_TIME) >= times["start"], "an end before the start")
    if "weight" in given:
        weight, exact = number(given["weight"][0], 9)
        demand(exact and weight <= 2**96 * 10**9, "a weight that is none")
    if "rev" in given:
        rev, exact = number(given["rev"][0], 0)
        demand(exact and rev < 2**32 and (rev == 0 or given.get("hold_id", ("",))[0]), "a rev that is none")
    return given["holder_id"][0].encode()


# --- The file.

SHAPE = {
    "format": str, "checkpoint": str, "holder": str,
    "state": {"value": bytes, "slot": int, "index": int, "size": int, "slot_path": [bytes], "state_path": [bytes]},
    "events": None,
}
MESSAGE = {"sequence": "uint", "stored": "int", "leaf": "uint", "data": bytes, "items": [int], "path": [bytes]}


def shaped(value, shape):
    """A value of the file as what it is to be; numbers that are texts become numbers, texts in base64 bytes."""
    if isinstance(shape, dict):
        demand(isinstance(value, dict) and list(value) == list(shape), f"the fields are not {', '.join(shape)}")
        return {name: shaped(value[name], shape[name]) for name in shape}
    if isinstance(shape, list):
        demand(isinstance(value, list), "a list is missing")
        return [shaped(v, shape[0]) for v in value]
    if shape is None:
        return None if value is None else shaped(value, [MESSAGE])
    if shape is int:
        demand(type(value) is int and 0 <= value < 2**63, "a number is missing")
        return value
    demand(isinstance(value, str), "a text is missing")
    if shape is bytes:
        return unbase64(value)
    if shape in ("int", "uint"):
        demand(re.fullmatch(r"0|[1-9][0-9]{0,19}", value) and int(value) < 2**(63 if shape == "int" else 64), f"{value[:40]!r} is no number")
        return int(value)
    return value


def read_file(data):
    """The file, whose JSON has one form but for white space between its parts."""
    try:
        text = data.decode()
        value = json.loads(text)
        narrow = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    except (ValueError, RecursionError) as e:
        raise Refused(f"the file is no proof, or is cut: {e}") from e
    demand(isinstance(value, dict) and value.get("format") == "holdfast-proof/1", "the file is not of the format holdfast-proof/1")
    given = re.sub(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+', lambda m: m[1] or "", text)
    demand(given == narrow, "the file is not in the form of a proof")
    return shaped(value, SHAPE)


def verify(data, key, witnesses=()):
    """Verifies a file's bytes. Returns its statement, when each witness has cosigned, the holder's id, state, and the number of its events."""
    f = read_file(data)
    statement = open_checkpoint(f["checkpoint"], key)
    cosigned = [(w[0], cosigned_at(f["checkpoint"], w)) for w in witnesses]
    demand(statement.stream == "HOLDS", "the checkpoint is of a stream without scores")
    holder, state = f["holder"], f["state"]

    partition, slot = place(holder)
    demand(partition == statement.partition, f"{holder!r} is of another partition than the checkpoint")
    demand(slot == state["slot"], f"{holder!r} is of another slot")
    member = Member(state["value"], Policy(statement.policy))
    demand(member.id == holder.encode(), f"the state is of {member.id!r}, not of {holder!r}")
    check_path(state["slot_path"])
    check_path(state["state_path"])
    demand(state["index"] > 0, "leaf 0 of a slot is no holder's")
    root = root_of(leaf_hash(state["value"]), state["index"], state["size"], state["slot_path"])
    root = root_of(leaf_hash(root), 1 + slot, 257, state["state_path"])
    demand(root == statement.states, "the state does not lead to the root of states that was signed")

    events = None if f["events"] is None else check_events(f["events"], holder, statement)
    return statement, cosigned, holder, member, events


def check_path(path):
    demand(all(len(h) == 32 for h in path), "a hash has not 32 bytes")


def check_events(messages, holder, statement):
    demand(messages, "a list without any events")
    events, before = 0, None
    for m in messages:
        what = f"message {m['sequence']}"
        demand(m["sequence"] <= statement.sequence, f"{what} is behind the checkpoint's sequence")
        demand(m["stored"] // 1000000 <= statement.clock, f"{what} was stored after the checkpoint's clock")
        demand(before is None or m["sequence"] > before["sequence"] and m["leaf"] > before["leaf"], f"{what} does not stand behind the one before it")
        check_path(m["path"])
        leaf = leaf_hash(struct.pack(">QQ", m["sequence"], m["stored"]) + m["data"])
        demand(root_of(leaf, m["leaf"], statement.size, m["path"]) == statement.messages, f"{what} does not lead to the root of messages that was signed")
        items = [i for i, h in enumerate(holders_in(m["data"])) if h == holder.encode()]
        demand(items and items == m["items"], f"the events of {holder!r} in {what} are {items}, not {m['items']}")
        events += len(items)
        before = m
    return events


def seconds(ms):
    return shortest(ms, 3)


def run(arguments):
    parser = argparse.ArgumentParser(description="Verifies a file that `holdfast prove` has written.")
    parser.add_argument("file")
    parser.add_argument("--key", required=True, help="the operator's public key, or a file that has it")
    parser.add_argument("--witness", action="append", default=[], help="the public key of a witness that must have cosigned, or a file that has it")
    parser.add_argument("--at", help="the instant to answer for: Unix seconds or RFC 3339; the checkpoint's clock if it is not given")
    parser.add_argument("--json", action="store_true", help="show the answer as one JSON object")
    a = parser.parse_args(arguments)
    try:
        key = read_key(a.key, SIGNS)
        witnesses = [read_key(w, COSIGNS) for w in a.witness]
        try:
            at = None if a.at is None else instant(a.at)
        except Refused as e:
            raise CannotTell(f"--at: {e}") from e
        try:
            with open(a.file, "rb") as file:
                data = file.read(MAX_FILE + 1)
        except OSError as e:
            raise CannotTell(str(e)) from e
        if len(data) > MAX_FILE:
            raise CannotTell(f"{a.file} has over {MAX_FILE} bytes, more than a proof may have")
        statement, cosigned, holder, member, events = verify(data, key, witnesses)
        if at is None:
            at = max(statement.clock, member.through)
        if at < member.through:
            raise CannotTell(f"--at: the state knows {seconds(member.through)} and later")
    except Refused as e:
        if a.json:
            print(json.dumps({"verdict": "refused", "reason": str(e)}))
        else:
            print(f"not verified: {e}", file=sys.stderr)
        return 1
    except CannotTell as e:
        if a.json:
            print(json.dumps({"verdict": "could not tell", "reason": str(e)}))
        else:
            print(f"could not tell: {e}", file=sys.stderr)
        return 2
    score, rate, open_holds = member.at(at) or (None, None, None)
    answer = {
        "verdict": "verified", "holder_id": holder, "origin": statement.origin, "sequence": statement.sequence, "messages": statement.size,
        "clock": seconds(statement.clock), "at": seconds(at), "known_since": seconds(member.through), "holds": None if score is None else member.holds,
        "score_exact": None if score is None else shortest(score, 12), "rate_exact": None if rate is None else shortest(rate, 9), "open_holds": open_holds,
        "witnesses": [{"name": name, "at": when} for name, when in cosigned], "events": events,
    }
    if a.json:
        print(json.dumps(answer))
        return 0
    print(f"verified: {statement.name} has signed the state of {holder!r} once its partition was folded up to sequence {statement.sequence}, at {seconds(statement.clock)}")
    print(f"score at {seconds(at)}: {answer['score_exact'] or 'none'}, rate {answer['rate_exact'] or 'none'}")
    if events is not None:
        print(f"each of the {events} events is in the log that was signed; that these are all of them is not proved")
    for name, when in cosigned:
        print(f"the witness {name} has cosigned the checkpoint at {when}")
    return 0


def main():
    """Runs the command. Exit code 1 says that a proof does not hold: a verdict that cannot be written, or any other failure, ends it with 2."""
    try:
        if sys.stdout is None:
            raise OSError("standard output is closed")
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # print would take standard output instead
        sys.stdout.reconfigure(errors="backslashreplace")  # an id may have characters that the terminal's encoding has not
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except Exception as e:
        what = f"the answer cannot be written: {e}" if isinstance(e, OSError) else repr(e)
        try:
            if sys.stderr is not None:
                print(f"could not tell: {what}", file=sys.stderr, flush=True)
        finally:
            os._exit(2)  # an ordinary exit would try to write the rest once more
    sys.exit(code)


if __name__ == "__main__":
    main()
