"""Run the commands of a reference module: read them as JSON lines, and answer each with a JSON line.

    PYTHONPATH=$ORIGINALS python -m tests.reference.interpreter tests.reference.cn_clip_reference

The argument is the name of the module. A line ``{"command": ..., "arguments": {...}}`` runs one of the functions in the
module's ``COMMANDS``, which write their results to files. The answer is ``{}``, or ``{"error": TRACEBACK}`` if the
function failed. `tests.support.originals` starts this program and sends the commands.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback

__all__: list[str] = []


def main() -> None:
    """Read commands from standard input until it ends, and answer each on standard output."""
    # The originals print to standard output, too; redirect that to standard error, away from the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    commands = importlib.import_module(sys.argv[1]).COMMANDS
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        try:
            commands[request["command"]](**request["arguments"])
        except (Exception, SystemExit):  # the originals' scripts end with sys.exit
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
