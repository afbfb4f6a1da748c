#!/usr/bin/env python3
"""Sends events to Holdfast's ingest service over HTTP, with the standard library alone.

    python3 over_http.py [--url http://127.0.0.1:8080] holds.ndjson

A file has one event a line, as JSON. What is refused is told with its line; the exit code is 1 if anything was not taken.

A request whose answer does not come may have been stored or not. Holds and releases that have a hold_id, and balances, are
safe to send again, and are. Holds without one and events of Proof of History would count twice: they are not sent again
when the outcome is unknown. For those see nats_msgpack.py and producer.mjs.
"""

import argparse
import http.client
import itertools
import json
import sys
import time
import urllib.error
import urllib.request

BATCH = 1000  # events a request: as many refusals as an answer lists; the service takes 100,000, and 16 MiB
ANSWER_TIMEOUT = 30  # seconds; the service itself gives up after 10
RETRY_FOR = 120  # seconds


class NotSent(Exception):
    """Events that were not stored, or of which that is not known."""


def endpoint(event):
    """The path that takes an event, and whether sending it twice changes nothing."""
    kind = event.get("kind", "hold")
    if kind not in ("hold", "release", "balance"):
        return "/poh", False
    return "/" + kind, kind == "balance" or bool(event.get("hold_id"))


def post(url, lines):
    """One request: its status, the seconds that the service asks to wait, and the answer."""
    body = "".join(line + "\n" for line in lines).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-ndjson"}, method="POST")
    try:
        response = urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT)
    except urllib.error.HTTPError as error:  # an answer too, of a status that is no success
        response = error
    with response:
        wait = response.headers.get("Retry-After", "")
        return response.status, int(wait) if wait.isdigit() else 1, json.load(response)


def send(url, lines, repeatable, retry_for=RETRY_FOR):
    """Sends the lines until each is stored or refused. Returns the refused ones: index and why."""
    deadline = time.monotonic() + retry_for
    while True:
        try:
            status, wait, answer = post(url, lines)
            unknown, problem = answer.get("unknown", 0) > 0, answer.get("error")
            why = f"{status}: {problem['message']}" if problem else ""
        except (OSError, ValueError, http.client.HTTPException) as error:  # no answer, or none that can be read
            status, wait, unknown, problem, why = 0, 1, True, None, str(error)
        if status in (200, 207, 400) and not problem:  # all were judged, one by one
            return [(e["line"] - 1, f"{e['reason']}: {e.get('field', '')}: {e['message']}") for e in answer["errors"]]
        if status == 413 and len(lines) > 1:  # too much for one request
            half = len(lines) // 2
            refused = send(url, lines[:half], repeatable, retry_for)
            return refused + [(half + i, why) for i, why in send(url, lines[half:], repeatable, retry_for)]
        if status not in (0, 408, 429, 502, 503, 504):
            raise NotSent(f"nothing was stored, and it would be the same again: {why}")
        if unknown and not repeatable:
            raise NotSent(f"stored or not, and sent again they might count twice: {why}")
        if time.monotonic() + wait > deadline:
            raise NotSent(f"given up after {retry_for} s: {why}")
        time.sleep(wait)


def read(name):
    """The events of a file: where each stands, its line, and where it goes to."""
    with open(name, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line:
                continue
            where = f"{name}:{number}"
            try:
                yield where, line, endpoint(json.loads(line))
            except (ValueError, AttributeError) as error:
                print(f"{where}: not an event: {error}", file=sys.stderr)
                yield where, None, None


def main():
    parser = argparse.ArgumentParser(description="Sends events to Holdfast over HTTP.")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the ingest service")
    parser.add_argument("files", nargs="+", metavar="FILE", help="one event a line")
    options = parser.parse_args()

    stored = failed = 0
    all_events = itertools.chain.from_iterable(map(read, options.files))
    for target, run in itertools.groupby(all_events, key=lambda e: e[2]):  # what follows one another and goes to the same path
        while batch := list(itertools.islice(run, BATCH)):
            if target is None:  # told already
                failed += len(batch)
                continue
            path, repeatable = target
            try:
                refused = send(options.url + path, [line for _, line, _ in batch], repeatable)
            except NotSent as error:
                print(f"{batch[0][0]} and what follows, {len(batch)} events: {error}", file=sys.stderr)
                return 1  # what comes later may build on these
            for index, why in refused:
                print(f"{batch[index][0]}: refused: {why}", file=sys.stderr)
            stored += len(batch) - len(refused)
            failed += len(refused)
    print(f"{stored} stored, {failed} not taken")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
