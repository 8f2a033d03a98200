"""The options of the page, and the function that serves the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tuwen import InvalidArgumentError, MissingExtraError, Tls
from tuwen_options import MODEL, TIMEOUT, URL, Option, check_values, documented
from tuwen_search.cutoff import THRESHOLD
from tuwen_search.store import STORE
from tuwen_search.web._words import Language

__all__ = ["WebOptions", "serve"]


@documented
@dataclass(frozen=True)
class WebOptions:
    """The options of the search page.

    ``tls`` and ``headers`` belong to the connection to the embedding server, as in `tuwen.Client`.
    """

    collection: Annotated[str, Option("Name of a collection that `tuwen index` made.", positional=True)]
    folders: Annotated[
        tuple[Path, ...],
        Option(
            "Folder whose pictures are shown in full size instead of as thumbnails. Repeat for more.",
            flags=("--pictures",),
        ),
    ] = ()
    host: Annotated[
        str, Option("Address to listen on. The page has no password, so open it to other machines with care.")
    ] = "127.0.0.1"
    port: Annotated[int, Option("Port to listen on.", min=1, max=65535)] = 8080
    # All other names are refused, because anyone can let a name resolve to this machine.
    allowed_hosts: Annotated[
        tuple[str, ...],
        Option(
            "Name under which browsers reach the page, such as a proxy's name. IP addresses, localhost and the "
            "address of --host are always allowed. Repeat for more.",
            flags=("--allowed-host",),
        ),
    ] = ()
    language: Annotated[Language, Option("Language of the page, until a visitor chooses the other language.")] = "zh"
    # The embedding server accepts at most 32 MiB.
    upload_mib: Annotated[int, Option("Maximum size in MiB of an uploaded picture.", min=1, max=32)] = 16
    examples: Annotated[
        tuple[str, ...],
        Option(
            "Text that the page suggests to visitors. Repeat for more. Default: subjects that many pictures show.",
            flags=("--example",),
        ),
    ] = ()
    threshold: Annotated[Path | None, THRESHOLD] = None
    store: Annotated[str | None, STORE] = field(default=None, repr=False)  # the address may contain a password
    url: Annotated[str, URL] = "localhost:8001"
    model: Annotated[str, MODEL] = ""
    timeout: Annotated[float, TIMEOUT] = 20.0
    tls: Tls | None = None
    headers: dict[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_values(self)
        for folder in self.folders:
            if not folder.is_dir():
                raise InvalidArgumentError(
                    f"--pictures: expected a folder, got {str(folder)!r}; name an existing folder"
                )


def serve(options: WebOptions) -> None:
    """Serve the page until the process is interrupted.

    Raises:
        MissingExtraError: a library of the page is not installed.
    """
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from tuwen_search.web._routes import application  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"the page needs an extra ({error}): pip install 'tuwen[web]'") from error
    uvicorn.run(application(options), host=options.host, port=options.port, log_level="warning", server_header=False)
