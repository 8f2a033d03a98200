"""The models behind the edge: the default model, and the models that requests choose by name."""

from __future__ import annotations

import time
from collections.abc import Callable

from tuwen import AsyncClient, ModelCard, TuwenError
from tuwen_edge.core import Core
from tuwen_edge.errors import EdgeError

__all__ = ["Models"]

_REFRESH_SECONDS = 5.0  # minimum time between two requests for the server's list of models
_RETIRED_SECONDS = 300.0  # after this time, no request still uses a replaced client


class Models:
    """The models of one embedding server.

    Args:
        default: the `Core` for requests that name no model.
        client: the client of the default model, which requests the list of models.
        connect: a function that returns a client of the model with the given name; None: only the default model is
            served.
        make_core: a function that returns a `Core` for a client and the name of the client's model.
    """

    def __init__(
        self,
        default: Core,
        client: AsyncClient,
        connect: Callable[[str], AsyncClient] | None = None,
        make_core: Callable[[AsyncClient, str], Core] = lambda client, name: Core(client, name=name),
    ) -> None:
        self._given = default
        self._client = client
        self._connect = connect
        self._make_core = make_core
        self._cores: dict[str, Core] = {}
        self._clients: dict[str, AsyncClient] = {}
        self._retired: list[tuple[float, AsyncClient]] = []  # replaced clients, with the times of replacement
        self._asked = float("-inf")
        self.started = default.started

    @property
    def default(self) -> Core:
        """The `Core` for requests that name no model: the given default, or else the server's only model."""
        if not self._given.fingerprint and len(self._cores) == 1:
            return next(iter(self._cores.values()))
        return self._given

    async def choose(self, asked: str | None) -> Core:
        """Return the `Core` of the requested model, even if the server has only just loaded the model.

        Args:
            asked: the requested name, with or without a fingerprint; None: the request names no model.

        Raises:
            EdgeError: no model has this name; or the request names no model and the server has several; or the server
                failed.
        """
        if asked is None:
            return await self._default()
        name = asked.partition("@")[0]
        core = self._cores.get(name)
        if core is None or core.is_changed:
            try:
                await self._given.check_model(asked)
            except EdgeError as error:
                await self._refresh()
                if name not in self._cores:
                    raise self._unknown(asked, error) from error
                core = self._cores[name]
            else:
                return self._given
        await core.check_model(asked)
        return core

    async def names(self) -> list[str]:
        """Return all names under which callers may ask for a model.

        Raises:
            EdgeError: the server failed, or has no model.
        """
        await self._refresh()
        found: list[str] = []
        try:
            found += self._given.names(await self._given.card())
        except EdgeError:
            if not self._cores:
                raise
        for core in self._cores.values():
            found += core.names(await core.card())
        return list(dict.fromkeys(found))

    async def is_ready(self) -> bool:
        """Return whether the default model can answer requests. Without a default model, one ready model is enough."""
        try:
            return await (await self._default()).is_ready()
        except EdgeError:
            return any([await core.is_ready() for core in self._cores.values()])

    async def shown(self) -> tuple[str, ModelCard]:
        """Return the name and the card of the default model, or else of the first model.

        Raises:
            EdgeError: the server failed, or has no model.
        """
        try:
            core = await self._default()
        except EdgeError:
            if not self._cores:
                raise
            core = next(iter(self._cores.values()))
        card = await core.card()
        return core.name(card), card

    async def close(self) -> None:
        """Close the clients of the named models."""
        for client in (*self._clients.values(), *(client for _, client in self._retired)):
            await client.close()
        self._retired.clear()
        self._clients.clear()
        self._cores.clear()

    async def _default(self) -> Core:
        if self._given.fingerprint:
            return self._given
        try:
            await self._given.card()
        except EdgeError as error:
            if error.code != "no_repository":
                raise
            await self._refresh()
            if len(self._cores) == 1:
                return next(iter(self._cores.values()))
            if self._cores:
                names = ", ".join(map(repr, self._cores))
                raise EdgeError(
                    400, f"This service has several models; name one of {names}.", code="model_required", param="model"
                ) from error
            raise
        return self._given

    def _unknown(self, asked: str, error: EdgeError) -> EdgeError:
        if error.code not in ("model_not_found", "no_repository") or not self._cores:
            return error
        more = ", ".join(map(repr, self._cores))
        known = "" if error.code == "no_repository" else f" {error.message}"
        return EdgeError(
            404,
            f"There is no model {asked[:100]!r}; this service has {more}.{known}",
            code="model_not_found",
            param="model",
        )

    async def _refresh(self) -> None:
        """Update the list of models after loads, unloads and replacements. If the server fails, keep the old list."""
        if self._connect is None or time.monotonic() - self._asked < _REFRESH_SECONDS:
            return
        self._asked = time.monotonic()
        while self._retired and self._asked - self._retired[0][0] > _RETIRED_SECONDS:
            await self._retired.pop(0)[1].close()
        try:
            found = await self._client.models()
        except TuwenError:  # the server does not run yet, or refuses statistics without a key
            return
        for name, core in list(self._cores.items()):
            if name not in found or core.fingerprint not in ("", found[name].fingerprint):
                del self._cores[name]
                self._retired.append((self._asked, self._clients.pop(name)))
        for name in found:
            if name and name not in self._cores:
                self._clients[name] = self._connect(name)
                self._cores[name] = self._make_core(self._clients[name], name)
