"""Verifying published checkpoints, which are fetched from the hub, served, and compared with published numbers.

``python -m tuwen_lab.published`` is the command (``make verify-published``). It needs a machine that reaches the hub.
"""

from tuwen_lab.published._checkpoints import CHECKPOINTS, PublishedCheckpoint, PublishedExample
from tuwen_lab.published._checks import (
    Check,
    HubUnreachableError,
    check_example,
    check_recalls,
    fetch_picture,
    splits_at_hand,
)
from tuwen_lab.published._command import main

__all__ = [
    "CHECKPOINTS",
    "Check",
    "HubUnreachableError",
    "PublishedCheckpoint",
    "PublishedExample",
    "check_example",
    "check_recalls",
    "fetch_picture",
    "main",
    "splits_at_hand",
]
