"""The list of a model's files on the Hugging Face hub. A deadline ends the request if the hub cannot be reached."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

__all__ = ["HubUnreachableError", "hub_address", "hub_files"]

_SECONDS = 5.0


class HubUnreachableError(Exception):
    """The hub did not answer."""


def hub_address() -> str:
    """Return the address of the hub or of the mirror in HF_ENDPOINT."""
    return str(constants.ENDPOINT)


def hub_files(hub_id: str) -> Sequence[str]:
    """Return the names of a model's files.

    Raises:
        HubUnreachableError: the hub did not answer within five seconds.
        OfflineModeIsEnabled: HF_HUB_OFFLINE is set.
        HfHubHTTPError: the hub has no such model, or refuses access.
    """
    found: list[Sequence[str]] = []
    failed: list[Exception] = []

    def ask() -> None:
        try:
            info = HfApi().model_info(hub_id, timeout=_SECONDS)
            found.append([sibling.rfilename for sibling in info.siblings or []])
        except Exception as error:
            failed.append(error)

    # The client's timeout holds for each address of a host, and not for the look-up of its name.
    thread = threading.Thread(target=ask, name="hub", daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if found:
        return found[0]
    if not failed:
        raise HubUnreachableError(f"{hub_address()} did not answer within {_SECONDS:.0f} seconds")
    [error] = failed
    if isinstance(error, (HfHubHTTPError, OfflineModeIsEnabled)):
        raise error
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    raise HubUnreachableError(f"{hub_address()} cannot be reached ({reason})") from error
