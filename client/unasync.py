"""Write the synchronous modules of the SDK from the asynchronous ones: one text for the behaviour of both clients.

::

    python client/unasync.py           # write them
    python client/unasync.py --check   # fail if one differs from what would be written

Names are replaced by their synchronous twins, and ``async`` and ``await`` are dropped. `SENTENCES` lists the sentences
that hold for only one of the clients. Ruff sorts the imports and formats the written files.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["main", "synchronous"]

PACKAGE = Path(__file__).parent / "tuwen"
MODULES: Mapping[str, str] = {"_async_client.py": "_client.py", "_async_pipeline.py": "_pipeline.py"}

# Patterns of the asynchronous source and their replacements, in the order in which they are applied.
PATTERNS: Sequence[tuple[str, str]] = (
    (r" \| AsyncIterable\[[^\n]*\](?=,?\n)", ""),  # the source of a stream
    (r"\bAsyncGenerator\[([^\n]*), None\]", r"Generator[\1, None, None]"),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"\bAsyncIterable\b", "Iterable"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b_async_(?=\w)", "_"),
    (r"\basync_(?=pause\b|cancel_all\b)", ""),
    (r"\baclosing\b", "closing"),
    (r"\b__a(?=enter__|exit__)", "__"),
    (r"\basynchronous=True\b", "asynchronous=False"),
    (r"\b(async|await) ", ""),
)
# Sentences of the asynchronous source, which must occur exactly once, and their synchronous replacements.
SENTENCES: Mapping[str, Mapping[str, str]] = {
    "_async_client.py": {
        '"""The asynchronous client."""': '"""The synchronous client."""',
        """\
    The client offers the methods of `tuwen.Client` as coroutines. All tasks of one event loop may share a client. A
    client belongs to the event loop of its first call; a call from another loop raises `EventLoopError`. Use the client
    as an asynchronous context manager, or await `close`. Threads read files and encode PIL images, so that they do not
    block the event loop. Cancelling a call cancels its requests.
""": """\
    Several threads may share a client. Use the client as a context manager, or call `close`.
""",
        "images: an iterable or asynchronous iterable of images, in any form that `embed_images` takes,": (
            "images: an iterable of images, in any form that `embed_images` takes,"
        ),
        "texts: an iterable or asynchronous iterable of strings or of pairs ``(key, text)``.": (
            "texts: an iterable of strings or of pairs ``(key, text)``."
        ),
    },
}
HEADER = "# Written by client/unasync.py from {}: change that file and run `python client/unasync.py`.\n"


def synchronous(name: str) -> str:
    """Return the synchronous twin of an asynchronous module of the SDK.

    Args:
        name: the name of the asynchronous module's file.

    Raises:
        ValueError: a sentence of `SENTENCES` is missing.
        subprocess.CalledProcessError: ruff cannot read the result.
    """
    text = (PACKAGE / name).read_text(encoding="utf-8")
    for sentence, twin in SENTENCES.get(name, {}).items():
        if text.count(sentence) != 1:
            raise ValueError(f"{name}: expected this text once, found it {text.count(sentence)} times: {sentence}")
        text = text.replace(sentence, twin)
    for pattern, twin in PATTERNS:
        text = re.sub(pattern, twin, text)
    target = str(Path(__file__).parent / "tuwen" / MODULES[name])  # ruff chooses its settings by this path
    text = _ruff("check", "--quiet", "--select=F401,I", "--fix-only", "--stdin-filename", target, "-", text=text)
    return HEADER.format(name) + _ruff("format", "--quiet", "--stdin-filename", target, "-", text=text)


def main() -> None:
    """Write the synchronous modules. With ``--check``, fail if a module is not up to date, and write nothing."""
    parser = argparse.ArgumentParser(description="Write the synchronous modules of the SDK from the asynchronous ones.")
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if a module is not up to date.")
    check = parser.parse_args().check
    outdated = []
    for name, twin in MODULES.items():
        written, path = synchronous(name), PACKAGE / twin
        if not path.exists() or path.read_text(encoding="utf-8") != written:
            outdated.append(twin)
            if not check:
                path.write_text(written, encoding="utf-8")
    if check and outdated:
        sys.exit(f"not up to date: {', '.join(outdated)}; run: python client/unasync.py")


def _ruff(*arguments: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, encoding="utf-8").stdout


if __name__ == "__main__":
    main()
