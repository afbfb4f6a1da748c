#!/usr/bin/env python3
"""Sends events to Holdfast over NATS with nats-py (pip install nats-py), as MessagePack, each in a message of its own.

    python3 nats_msgpack.py [--servers nats://127.0.0.1:4222] --name till-7 holds.ndjson poh.ndjson

A file has one event a line, as JSON. Each message has an id made of --name, the file and the line: what is sent again within
two minutes is stored once, so a lost acknowledgement does no harm. Over a longer time a hold or release with a hold_id, and a
balance, still count once; events of Proof of History do not: to number them, see producer.mjs.
"""

import argparse
import asyncio
import json
import os
import string
import struct
import sys

import nats
from nats.errors import Error as NATSError
from nats.js.errors import APIError

RETRY_FOR = 60  # seconds; well below the two minutes for which a stream remembers ids of messages
NEVER = {10054, 10097}  # codes of errors that sending again does not help: the message or its header is too large
PLAIN = frozenset((string.ascii_letters + string.digits + "-_").encode())


def encode_id(text):
    """An id as one token of a subject."""
    return "".join(chr(b) if b in PLAIN else f"={b:02X}" for b in text.encode())


def subject_of(event):
    """The subject of a single event. The server finds the partition by its last token."""
    if "node" in event:
        return "poh." + encode_id(event["node"])
    return "hold." + encode_id(event["holder_id"])


def pack(event):
    """An event as a MessagePack map: texts, whole numbers from 0 to 2⁶⁴−1, floats and None. msgpack.packb does the same."""
    if len(event) > 15:
        raise ValueError(f"{len(event)} fields: no event has so many")
    out = bytearray([0x80 | len(event)])
    for name, value in event.items():
        pack_scalar(out, name)
        pack_scalar(out, value)
    return bytes(out)


def pack_scalar(out, value):
    if value is None:
        out.append(0xC0)
    elif isinstance(value, str):
        data = value.encode()
        if len(data) < 32:
            out.append(0xA0 | len(data))
        elif len(data) < 256:
            out += struct.pack(">BB", 0xD9, len(data))
        else:
            raise ValueError(f"a text of {len(data)} bytes: an id has at most 128")
        out += data
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r}: a field is a text or a number")
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xCB, value)
    elif not 0 <= value < 1 << 64:
        pack_scalar(out, str(value))  # a number may be a text everywhere
    elif value < 128:
        out.append(value)
    else:
        for code, form, limit in ((0xCC, ">BB", 8), (0xCD, ">BH", 16), (0xCE, ">BI", 32), (0xCF, ">BQ", 64)):
            if value < 1 << limit:
                out += struct.pack(form, code, value)
                return


try:
    from msgpack import packb as pack  # noqa: F811 - the package, where it is installed
except ImportError:
    pass


async def publish(js, event, message_id, timeout=5.0, retry_for=RETRY_FOR):
    """Publishes one event until the stream has acknowledged it, and returns the acknowledgement.

    js is what nats-py's jetstream() returns. Every attempt is the same message under the same id, so that the stream keeps one.
    """
    subject, data = subject_of(event), pack(event)
    deadline = asyncio.get_running_loop().time() + retry_for
    while True:
        try:
            return await js.publish(subject, data, timeout=timeout, headers={"Nats-Msg-Id": message_id})
        except APIError as error:
            if error.err_code in NEVER:
                raise
            problem = error  # the stream is full, has no leader, or is still busy with the same message
        except (NATSError, OSError, asyncio.TimeoutError) as error:
            # Nothing answers: the acknowledgement was lost, NATS is away, or no stream takes the subject (yet). A subject that
            # this user may not publish to shows as a timeout too; nats-py's error_cb is told of it.
            problem = error
        if asyncio.get_running_loop().time() > deadline:
            raise problem
        await asyncio.sleep(0.5)


def read(name):
    """The events of a file with their lines. Decimals stay texts: as floats, some would no longer be what was written."""
    with open(name, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, json.loads(line, parse_float=str)


async def main():
    parser = argparse.ArgumentParser(description="Sends events to Holdfast over NATS.")
    parser.add_argument("--servers", default="nats://127.0.0.1:4222")
    parser.add_argument("--name", required=True, help="what the ids of messages begin with; no other producer uses it")
    parser.add_argument("--timeout", type=float, default=5, help="seconds to wait for an acknowledgement before sending again")
    parser.add_argument("files", nargs="+", metavar="FILE", help="one event a line")
    options = parser.parse_args()

    nc = await nats.connect(options.servers)
    try:
        stored = known = 0
        for name in options.files:
            for number, event in read(name):
                # One after the other: what belongs to one holder keeps its order, a hold before its release.
                ack = await publish(nc.jetstream(), event, f"{options.name}:{os.path.basename(name)}:{number}", options.timeout)
                stored, known = stored + (not ack.duplicate), known + bool(ack.duplicate)
        print(f"{stored} stored, {known} known already")
    finally:
        await nc.close()


if __name__ == "__main__":
    asyncio.run(main())
