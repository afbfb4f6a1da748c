"""Publishing to streams, as nats-py does it."""

import dataclasses
import json

import nats.errors
from nats.js.errors import APIError, NoStreamResponseError


@dataclasses.dataclass
class PubAck:
    stream: str
    seq: int
    duplicate: bool = False


class JetStreamContext:
    def __init__(self, connection):
        self._connection = connection

    async def publish(self, subject, payload=b"", timeout=None, stream=None, headers=None):
        try:
            answer = json.loads(await self._connection.request(subject, payload, timeout=timeout or 5, headers=headers))
        except nats.errors.NoRespondersError:
            raise NoStreamResponseError from None
        if "error" in answer:
            raise APIError(**answer["error"])
        return PubAck(answer["stream"], answer["seq"], answer.get("duplicate", False))
