"""The log: one JSON object per line, without texts, images, keys or addresses of callers' pictures."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import IO, Any

import orjson

__all__ = ["JsonFormatter", "RequestLog", "configure_logging"]


class JsonFormatter(logging.Formatter):
    """A formatter that writes each record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record. A dictionary ``fields`` in the record's ``extra`` adds fields."""
        line: dict[str, Any] = {
            "time": _now(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            # An error's message may contain a caller's data: log only the error's type and its place in the code.
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        return orjson.dumps(line, default=str).decode()


class RequestLog:
    """The log of requests.

    Args:
        is_on: whether answered requests are logged. Errors in the edge itself are always logged.
        stream: the stream for the lines; None: standard error.

    Attributes:
        is_on: whether answered requests are logged.
    """

    def __init__(self, *, is_on: bool, stream: IO[str] | None = None) -> None:
        self.is_on = is_on
        self._stream = stream
        self._logger = logging.getLogger("tuwen_edge")

    def answered(self, fields: Mapping[str, Any]) -> None:
        """Write a line about an answered request.

        The line goes directly to the stream, because a logger takes longer than the edge's other work on a text.
        """
        line = orjson.dumps({"time": _now(time.time()), "level": "info", "message": "request", **fields})
        (self._stream or sys.stderr).write(f"{line.decode()}\n")

    def failed(self, fields: Mapping[str, Any], error: BaseException) -> None:
        """Write a line about a request on which the edge failed."""
        self._logger.error("the edge failed", exc_info=error, extra={"fields": fields})


def _now(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def configure_logging(stream: IO[str] | None = None) -> None:
    """Let the loggers of the edge and of uvicorn write JSON to a stream; None: standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    # The parser logs every bad form. Operators need no such lines: the metrics count responses with status 400.
    levels = {"tuwen_edge": logging.INFO, "uvicorn.error": logging.ERROR, "python_multipart": logging.CRITICAL}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
