"""The health check: whether the edge can answer requests, and with which model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from tuwen_edge.dialects.openai import OPENAI
from tuwen_edge.errors import EdgeError
from tuwen_edge.operations import Answer, Call, Operation

__all__ = ["OPERATIONS"]


class HealthAnswer(BaseModel):
    """The response while the edge and the embedding server can answer requests."""

    status: Literal["ready"]
    model: str
    fingerprint: str


async def _health(call: Call) -> Answer:
    if not await call.models.is_ready():
        raise EdgeError(503, "The embedding server is not ready.", code="server_unavailable", retry_after=2)
    name, card = await call.models.shown()
    return {"status": "ready", "model": name, "fingerprint": card.fingerprint}


OPERATIONS = (
    Operation(
        "/health",
        "GET",
        OPENAI,
        "Return whether the edge can answer requests.",
        HealthAnswer,
        _health,
        needs_key=False,
        statuses=(500, 502, 503, 504),
    ),
)
