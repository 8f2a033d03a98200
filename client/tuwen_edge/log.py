"""The log: one JSON object a line, without texts, images, keys or addresses of callers' pictures."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import IO, Any

__all__ = ["JsonFormatter", "RequestLog", "configure_logging"]


class JsonFormatter(logging.Formatter):
    """Formats a record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; ``extra={"fields": {...}}`` of a record adds fields."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            # The text of an error may hold what a caller sent, so only its type and its place are told.
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        return json.dumps(line, ensure_ascii=False)


class RequestLog:
    """The log of requests.

    Args:
        is_on: whether answered requests are told; failures of the edge always are.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._logger = logging.getLogger("tuwen_edge")

    def answered(self, fields: dict[str, Any]) -> None:
        """Write a line about an answered request."""
        if self._is_on:
            self._logger.info("request", extra={"fields": fields})

    def failed(self, fields: dict[str, Any], error: BaseException) -> None:
        """Write a line about a request on which the edge failed."""
        self._logger.error("the edge failed", exc_info=error, extra={"fields": fields})


def configure_logging(stream: IO[str] | None = None) -> None:
    """Let the loggers of the edge and of uvicorn write JSON to a stream; None: standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    # Bad forms are no news for an operator: they are counted as answers of status 400.
    levels = {"tuwen_edge": logging.INFO, "uvicorn.error": logging.ERROR, "python_multipart": logging.CRITICAL}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
