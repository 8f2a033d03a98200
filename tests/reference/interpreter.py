"""The loop of a reference interpreter: runs commands that come as JSON lines, and answers each with a JSON line.

    PYTHONPATH=$ORIGINALS python -m tests.reference.interpreter tests.reference.cn_clip_reference

The argument names a module. A command is ``{"command": ..., "arguments": {...}}`` and names one of the module's
``COMMANDS``, which write their results to files. The answer is ``{}``, or ``{"error": TRACEBACK}``.
`tests.support.originals` is the other end.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback

__all__: list[str] = []


def main() -> None:
    """Answer commands until the standard input ends."""
    # What the originals print goes to the standard error stream, so that it cannot mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    commands = importlib.import_module(sys.argv[1]).COMMANDS
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        try:
            commands[request["command"]](**request["arguments"])
        except (Exception, SystemExit):  # scripts of the originals end with sys.exit
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
