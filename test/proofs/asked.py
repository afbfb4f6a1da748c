"""Answers, line by line, what examples/verify/verify.py says: one process for many files.

A line asks, and is answered:
{"verify": ARGUMENTS}                                       {"code": N, "out": TEXT, "err": TEXT}
{"holders": HEX}                                            {"holders": [HEX, ...]}, null if the message is malformed
{"leaf": HEX, "index": N, "size": N, "path": [HEX, ...]}    {"root": HEX}, null if there is none
{"member": HEX, "policy": {NAME: VALUE}, "at": MS}          {"known": whether it is a state, "score": TEXT, "rate": TEXT}, null if there is none
"""

import contextlib
import io
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples" / "verify"))
sys.dont_write_bytecode = True
import verify  # noqa: E402

for line in sys.stdin:
    asked = json.loads(line)
    if "holders" in asked:
        try:
            answer = {"holders": [h.hex() for h in verify.holders_in(bytes.fromhex(asked["holders"]))]}
        except verify.Refused:
            answer = {"holders": None}
    elif "leaf" in asked:
        try:
            path = [bytes.fromhex(h) for h in asked["path"]]
            answer = {"root": verify.root_of(bytes.fromhex(asked["leaf"]), asked["index"], asked["size"], path).hex()}
        except verify.Refused:
            answer = {"root": None}
    elif "member" in asked:
        try:
            reading = verify.Member(bytes.fromhex(asked["member"]), verify.Policy(asked["policy"])).at(asked["at"])
            answer = {"known": True}
            if reading is not None:
                answer |= {"score": verify.shortest(reading[0], 12), "rate": verify.shortest(reading[1], 9)}
        except verify.Refused:
            answer = {"known": False}
    else:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = verify.run(asked["verify"])
            except SystemExit as e:
                code = e.code
        answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps(answer), flush=True)
