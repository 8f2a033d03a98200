"""Runs of the original implementations, cn_clip and open_clip, each in its own interpreter, with cached results."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.support.artefacts import Artefacts
from tests.support.paths import ENVIRONMENTS, ROOT
from tests.support.sources import files_hash

__all__ = [
    "CharacterIds",
    "Original",
    "OriginalError",
    "Originals",
    "ReferenceInterpreter",
    "Vectors",
    "content_hash",
    "originals_of",
]

Original = Literal["cn_clip", "open_clip"]
Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]  # the vectors of images, and the vectors of texts

_ENVIRONMENT = ENVIRONMENTS / "originals"
_MODULES: Mapping[Original, str] = {
    "cn_clip": "tests.reference.cn_clip_reference",
    "open_clip": "tests.reference.open_clip_reference",
}


class OriginalError(Exception):
    """The failure of a command in the interpreter of an original implementation.

    The message holds the interpreter's traceback or its last output.
    """


@dataclass(frozen=True)
class CharacterIds:
    """The token ids that an original gives to many texts, each of which holds one character of interest.

    Attributes:
        codes: the code point of each character.
        lengths: the number of ids of each text, including the ids of start and end.
        ids: the ids of all texts, one text after the other.
    """

    codes: NDArray[np.int32]
    lengths: NDArray[np.uint8]
    ids: NDArray[np.int32]


class ReferenceInterpreter:
    """A Python interpreter that has the originals on its path and runs ``tests.reference.interpreter``.

    The interpreter starts with the first command. If a command exceeds its deadline, the interpreter is ended.

    Args:
        module: the module that runs the commands, such as ``tests.reference.cn_clip_reference``.
        environment: the folder with the packages of the originals.
    """

    def __init__(self, module: str, environment: Path = _ENVIRONMENT) -> None:
        self._module = module
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the interpreter is running."""
        return self._process is not None and self._process.poll() is None

    def run(self, command: str, *, seconds: float = 300, **arguments: object) -> None:
        """Run a command to its end.

        Args:
            command: the name of a command in the module's ``COMMANDS``.
            seconds: the longest time for the command and for the start of the interpreter, in seconds.
            arguments: the arguments of the command, of types that JSON can write.

        Raises:
            OriginalError: the command raised an error or overran its deadline, or the interpreter ended.
        """
        process = self._started()
        assert process.stdin is not None
        request = {"command": command, "arguments": arguments}
        with contextlib.suppress(BrokenPipeError):  # if the interpreter has ended, `_answer` reports that
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        answer = self._answer(process, f"{command!r} of {self._module}", seconds)
        if "error" in answer:
            raise OriginalError(f"command {command!r} of {self._module} failed:\n{answer['error']}")

    def close(self) -> None:
        """End the interpreter."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the interpreter runs
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reference.interpreter", self._module],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(self._environment), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], command: str, seconds: float) -> dict[str, Any]:
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        received = b""
        while not received.endswith(b"\n"):
            if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.close()
                raise OriginalError(f"the command {command} did not finish within {seconds} s")
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                code = process.wait()
                raise OriginalError(
                    f"the command {command} ended the interpreter with exit code {code}:\n{self._last_output()}"
                )
            received += chunk
        return dict(json.loads(received))

    def _last_output(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]


class Originals:
    """The results of the originals, computed by one interpreter of each original or taken from the cache.

    The key of a result holds the content of everything that determines it. No interpreter starts for a cached result.

    Args:
        artefacts: the cache for the results.
        environment: the folder with the packages of the originals, which ``tests/environments.sh originals`` makes.
        modules: the module that runs the commands of each original, by the name of the original.
    """

    def __init__(
        self, artefacts: Artefacts, environment: Path = _ENVIRONMENT, modules: Mapping[Original, str] = _MODULES
    ) -> None:
        self._artefacts = artefacts
        self._environment = environment
        self._modules = modules
        self._interpreters = {name: ReferenceInterpreter(module, environment) for name, module in modules.items()}

    @property
    def running(self) -> list[Original]:
        """The names of the originals whose interpreters are running."""
        return [name for name, interpreter in self._interpreters.items() if interpreter.running]

    def embeddings(
        self, original: Original, checkpoint: Path, images: Sequence[bytes], texts: Sequence[str]
    ) -> Vectors:
        """Return the unit vectors of images and of texts that an original computes.

        Args:
            original: the implementation that reads the checkpoint.
            checkpoint: the file or folder of the checkpoint.
            images: the encoded images, at least one.
            texts: the texts, at least one.
        """
        decides = {
            "checkpoint": content_hash(checkpoint),
            "images": [hashlib.sha256(image).hexdigest() for image in images],
            "texts": list(texts),
        }
        with tempfile.TemporaryDirectory() as scratch:
            inputs = Path(scratch) / "inputs.npz"
            np.savez(inputs, images=np.array(images, dtype=object), texts=np.array(texts, dtype=object))
            folder = self.result(original, "embed", decides, checkpoint=str(checkpoint), inputs=str(inputs))
        with np.load(folder / "embeddings.npz") as file:
            return file["images"], file["texts"]

    def token_ids(self, original: Original, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that an original gives to texts, without the ids of start and end."""
        folder = self.result(original, "tokens", {"texts": list(texts)}, texts=list(texts))
        return list(json.loads((folder / "ids.json").read_text(encoding="utf-8")))

    def characters(
        self, original: Original, which: Literal["characters", "code_points"] = "characters"
    ) -> CharacterIds:
        """Return the token ids of one text for each character, which `tests.reference.characters.in_a_text` makes.

        Args:
            original: the implementation that tokenizes the texts.
            which: ``characters`` for the assigned characters, or ``code_points`` for every code point. Only cn_clip has
                a command for code points.
        """
        with np.load(self.result(original, which, {}) / "ids.npz") as file:
            return CharacterIds(file["codes"], file["lengths"], file["ids"])

    def clip_vocabulary(self) -> Path:
        """Return a folder with the ``vocab.json`` and ``merges.txt`` of OpenAI's CLIP."""
        return self.result("open_clip", "vocabulary", {})

    def recall(self, features: Path) -> dict[str, Any]:
        """Return the recalls that Chinese-CLIP's own scripts compute from a folder of features and annotations."""
        folder = self.result("cn_clip", "recall", {"features": content_hash(features)}, features=str(features))
        return dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))

    def architecture(self, vision: str, text: str) -> dict[str, Any]:
        """Return the ``shapes`` of the weights and the ``heads`` of the towers of a published Chinese-CLIP."""
        arguments = {"vision": vision, "text": text}
        folder = self.result("cn_clip", "architecture", arguments, **arguments)
        return dict(json.loads((folder / "architecture.json").read_text(encoding="utf-8")))

    def result(self, original: Original, command: str, decides: Mapping[str, object], **arguments: object) -> Path:
        """Return the folder with the results of a command, from the cache if the command has run before.

        Args:
            original: the implementation whose interpreter runs the command.
            command: the name of a command in the ``COMMANDS`` of the original's module.
            decides: the values that determine the results, beside the code and the packages of the original.
            arguments: the arguments of the command, without `output`.
        """
        return self._artefacts.get(
            f"{original}-{command}",
            lambda place: self.run(original, command, output=str(place), **arguments),
            modules=(self._modules[original],),
            options={**decides, "environment": self._recipe()},
        )

    def run(self, original: Original, command: str, **arguments: object) -> None:
        """Run a command without the cache. The arguments are those of `ReferenceInterpreter.run`."""
        self._recipe()
        self._interpreters[original].run(command, **arguments)

    def close(self) -> None:
        """End all interpreters."""
        for interpreter in self._interpreters.values():
            interpreter.close()

    def _recipe(self) -> str:
        """Return the hash of the recipe by which the packages of the originals were installed."""
        try:
            return (self._environment / ".complete").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise OriginalError(
                f"{self._environment} lacks cn_clip and open_clip; install them with: tests/environments.sh originals"
            ) from None


@contextlib.contextmanager
def originals_of(artefacts: Artefacts) -> Iterator[Originals]:
    """Yield `Originals` for the block, and end their interpreters afterwards."""
    originals = Originals(artefacts)
    try:
        yield originals
    finally:
        originals.close()


def content_hash(path: Path) -> str:
    """Return a hash of the content of a file, or of the files of a folder.

    The JSON file beside a native checkpoint is part of the hash, because it holds the checkpoint's architecture.
    """
    if path.is_dir():
        return files_hash((file for file in path.rglob("*") if file.is_file()), path)
    return files_hash((file for file in (path, path.with_suffix(".json")) if file.is_file()), path.parent)
