"""A stand-in for nats-py: see README.md."""

import asyncio
import json
import secrets
import urllib.parse

from nats.errors import ConnectionClosedError, NoRespondersError, TimeoutError
from nats.js import JetStreamContext


async def connect(servers):
    address = urllib.parse.urlsplit(servers)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    await reader.readline()  # INFO
    return Client(reader, writer)


class Client:
    """A connection. Answers to requests come to one inbox, by a token for each request."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self._inbox = "_INBOX." + secrets.token_hex(11)
        self._waiting = {}  # token to future
        options = {"verbose": False, "pedantic": False, "lang": "python", "version": "0", "headers": True, "no_responders": True}
        self._send(f"CONNECT {json.dumps(options)}\r\nSUB {self._inbox}.* 1\r\n".encode())
        self._task = asyncio.create_task(self._read())

    def jetstream(self):
        return JetStreamContext(self)

    async def close(self):
        self._task.cancel()
        self._writer.close()

    async def request(self, subject, payload, timeout, headers=None):
        """Publishes, and returns the body of the answer."""
        token, answer = secrets.token_hex(4), asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items()) + "\r\n"
        head = head.encode()
        control = f"HPUB {subject} {self._inbox}.{token} {len(head)} {len(head) + len(payload)}\r\n"
        try:
            if self._task.done():
                raise ConnectionClosedError
            self._send(control.encode() + head + payload + b"\r\n")
            return await asyncio.wait_for(answer, timeout)
        except asyncio.TimeoutError:
            raise TimeoutError from None
        finally:
            del self._waiting[token]

    def _send(self, data):
        self._writer.write(data)

    async def _read(self):
        try:
            while line := await self._reader.readline():
                verb, *arguments = line.decode().split()
                if verb == "PING":
                    self._send(b"PONG\r\n")
                elif verb in ("MSG", "HMSG"):
                    data = (await self._reader.readexactly(int(arguments[-1]) + 2))[:-2]
                    head = int(arguments[-2]) if verb == "HMSG" else 0
                    self._answer(arguments[0], data[:head], data[head:])
                elif verb == "-ERR":
                    raise ConnectionError(line.decode().strip())
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionClosedError())

    def _answer(self, subject, head, body):
        answer = self._waiting.get(subject.rpartition(".")[2])
        if answer is None or answer.done():
            return
        if head.startswith(b"NATS/1.0 503"):
            answer.set_exception(NoRespondersError())
        else:
            answer.set_result(body)
