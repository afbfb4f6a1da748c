"""Holds nats_msgpack.py against the test vectors, and its publishing against a stream that does not answer as it should.

Run it by: python3 -m unittest (it needs nats-py, as the module does).
"""

import asyncio
import json
import pathlib
import types
import unittest

import nats_msgpack
from nats.errors import TimeoutError
from nats.js.errors import APIError, NoStreamResponseError

VECTORS = json.loads((pathlib.Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))


class Format(unittest.TestCase):
    def test_ids(self):
        for v in VECTORS["ids"]:
            self.assertEqual(nats_msgpack.encode_id(v["id"]), v["encoded"])

    def test_events(self):
        for v in VECTORS["events"]:
            self.assertEqual(nats_msgpack.pack(v["open"]).hex(), v["msgpack"])
            self.assertEqual(nats_msgpack.subject_of(v["open"]), v["subject"])

    def test_scalars(self):
        for value, want in (
            (None, "c0"), (0, "00"), (127, "7f"), (128, "cc80"), (255, "ccff"), (256, "cd0100"), (65535, "cdffff"), (65536, "ce00010000"),
            ((1 << 32) - 1, "ceffffffff"), (1 << 32, "cf0000000100000000"), ((1 << 64) - 1, "cf" + "ff" * 8), (2.5, "cb4004000000000000"),
            ("", "a0"), ("x" * 31, "bf" + "78" * 31), ("é" * 16, "d920" + "c3a9" * 16), ("x" * 255, "d9ff" + "78" * 255),
        ):
            self.assertEqual(nats_msgpack.pack({"f": value}).hex(), "81a166" + want)

    @unittest.skipIf(nats_msgpack.pack.__module__ == "msgpack", "the package has rules of its own")
    def test_refused(self):
        self.assertEqual(nats_msgpack.pack({"f": 1 << 64}), nats_msgpack.pack({"f": str(1 << 64)}))
        for bad in (True, [], {}, b"x", "x" * 256):
            with self.assertRaises(ValueError):
                nats_msgpack.pack({"f": bad})


class Stream:
    """Gives one answer after the other, and keeps what was published."""

    def __init__(self, *answers):
        self.answers, self.published = list(answers), []

    async def publish(self, subject, payload=b"", timeout=None, headers=None):
        self.published.append((subject, payload, headers["Nats-Msg-Id"]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return types.SimpleNamespace(seq=answer, duplicate=False)


class Publishing(unittest.TestCase):
    event = {"kind": "gc", "node": "n1", "type": "minor"}

    def test_sent_again_as_it_was(self):
        js = Stream(TimeoutError(), NoStreamResponseError(), APIError(code=503, err_code=10077, description="maximum bytes exceeded"), 7)
        ack = asyncio.run(nats_msgpack.publish(js, self.event, "id-1", retry_for=60))
        self.assertEqual(ack.seq, 7)
        self.assertEqual(len(js.published), 4)
        self.assertEqual(set(js.published), {("poh.n1", nats_msgpack.pack(self.event), "id-1")})

    def test_never_taken(self):
        js = Stream(APIError(code=400, err_code=10054, description="message size exceeds maximum allowed"))
        with self.assertRaises(APIError):
            asyncio.run(nats_msgpack.publish(js, self.event, "id-1"))

    def test_given_up(self):
        js = Stream(TimeoutError(), TimeoutError())
        with self.assertRaises(TimeoutError):
            asyncio.run(nats_msgpack.publish(js, self.event, "id-1", retry_for=0))


if __name__ == "__main__":
    unittest.main()
