"""Answers, line by line, what examples/verify/verify.py says: one process for many files.

A line is {"verify": ARGUMENTS} or {"holders": HEX}; so is each answer: {"code": N, "out": TEXT, "err": TEXT}, or {"holders": [HEX, ...]}, null if
the message is malformed.
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
    else:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = verify.run(asked["verify"])
            except SystemExit as e:
                code = e.code
        answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps(answer), flush=True)
