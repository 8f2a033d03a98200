"""The models of a running server: list, load and unload them, and set aliases.

Here, a model is a repository with a name, such as ``b16``, with all its Triton models. An alias, such as ``shop``,
stands for a loaded model. An alias has its own ensembles, whose steps are the models of the repository. A switch of the
alias replaces these ensembles one after the other, and requests are answered meanwhile. Each response names the
embedding space of its vectors.

The server needs ``--model-control-mode=explicit``, as `tuwen serve` runs it, and usually a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tuwen import InvalidArgumentError, Tls
from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen.model_names import ENSEMBLES, check_name, full_name, name_and_model
from tuwen_server._remote import RemoteControl
from tuwen_server.errors import ModelControlError

__all__ = ["ModelAdministrator", "ServedModel"]

_POLL_SECONDS = 0.1
_APPEARS_SECONDS = 5.0  # `tuwen serve` looks for new repositories every second
_CARD = "text_embedding"
_ACTIVE = ("READY", "LOADING", "UNLOADING")


@dataclass(frozen=True)
class ServedModel:
    """A model or an alias on a server.

    Attributes:
        name: the name of the model or alias, for ``Client(url, model=name)``; empty: the model that has no name.
        state: the state ``loaded``, ``unloaded`` or ``partly loaded``. A load in progress or a failed load gives
            ``partly loaded``.
        alias_of: the model that the alias stands for; None: the entry is a model, not an alias.
        fingerprint: the embedding space; empty if the model is not loaded.
        checkpoint: the checkpoint that the model was built from; empty if the model is not loaded.
    """

    name: str
    state: str
    alias_of: str | None = None
    fingerprint: str = ""
    checkpoint: str = ""


class ModelAdministrator:
    """The administration of one server's models: loading, unloading and aliases.

    Args:
        url: the address ``host:port`` of the server's gRPC endpoint.
        key: the key of the server's restricted protocols; None: the server has none.
        tls: the encryption of the connection; None: plain text.
        headers: the headers of every request.
        timeout: the maximum number of seconds that unloading a model waits for requests in flight.
        control: the connection to the server. Tests replace it.
        clock: the clock that measures the timeout. Tests replace it.

    Raises (by every method):
        ModelControlError: the server refused the action, or the action failed.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        tls: Tls | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        control: RemoteControl | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._control = control or RemoteControl(url, key=key, tls=tls, headers=headers)
        self._timeout = timeout
        self._clock = clock or system_clock

    def __enter__(self) -> ModelAdministrator:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()

    def models(self) -> list[ServedModel]:
        """Return all models in the server's repositories, loaded or not, and all aliases."""
        states = self._states()
        return [self._served(name, states) for name in sorted(states)]

    def load(self, name: str) -> ServedModel:
        """Load a model, and wait until it is ready. A model that cannot be loaded as a whole is unloaded again.

        Raises:
            ModelControlError: no repository of the server has this name, or the model is loaded already.
        """
        self._wait_for(lambda: name in self._states(), _APPEARS_SECONDS)
        states = self._states()
        found = states.get(name, {})
        if not found:
            known = ", ".join(map(repr, sorted(states))) or "none"
            raise ModelControlError(
                f"cannot load {name!r}: expected the name of a repository of the server ({known}); put a missing "
                "repository into a folder that the server serves"
            )
        if any(found.get(model) == "READY" for model in ENSEMBLES):
            raise ModelControlError(
                f"cannot load {name!r}: the model is loaded already. To replace the model, unload it first, or build "
                "the new model with another name and switch an alias to the new model"
            )
        try:
            # One at a time: Triton would load all steps of an ensemble at once, and take the cores from other models.
            for model in sorted(found, key=lambda model: model in ENSEMBLES):
                self._control.load(full_name(name, model))
        except ModelControlError:
            self._unload_all(name, list(found))
            raise
        return self._served(name, self._states())

    def unload(self, name: str) -> None:
        """Unload a model, or remove an alias. Requests in flight are answered first, and new requests are refused.

        Raises:
            ModelControlError: the model is not loaded, or an alias stands for it.
        """
        states = self._states()
        found = states.get(name, {})
        if "READY" not in found.values():
            raise ModelControlError(f"cannot unload {name!r}: no such model is loaded")
        aliases = [other for other in states if other != name and self._served(other, states).alias_of == name]
        if aliases:
            raise ModelControlError(
                f"cannot unload {name!r}: the alias {aliases[0]!r} stands for it. Switch the alias to another "
                f"model, or unload {aliases[0]!r} first"
            )
        self._unload_all(name, list(found))

    def alias(self, name: str, target: str) -> ServedModel:
        """Make a name an alias of a loaded model, or switch the alias. No request fails during a switch.

        A client that is bound to an embedding space refuses responses from another space.

        Raises:
            InvalidArgumentError: the name is not allowed as the name of a model.
            ModelControlError: the target is not loaded, or a repository has the alias's name.
        """
        if not name:
            raise InvalidArgumentError("expected a name for the alias, such as shop")
        check_name(name)
        states = self._states()
        if set(states.get(name, {})) - set(ENSEMBLES):
            raise ModelControlError(f"cannot set the alias {name!r}: a repository has this name; choose another alias")
        ensembles = [
            model for model, state in states.get(target, {}).items() if model in ENSEMBLES and state == "READY"
        ]
        if _CARD not in ensembles:
            raise ModelControlError(f"cannot set the alias {name!r}: the model {target!r} is not loaded; load it first")
        for model in ensembles:
            config = self._control.config(full_name(target, model))
            config.name = full_name(name, model)
            # Triton takes a model that is in no repository only together with a file of the model.
            self._control.load(config.name, config, files={"file:1/alias": target.encode()})
        return self._served(name, self._states())

    def _served(self, name: str, states: Mapping[str, Mapping[str, str]]) -> ServedModel:
        found = states.get(name, {})
        ready = [model for model, state in found.items() if state == "READY"]
        state = "unloaded" if not ready else "loaded" if len(ready) == len(found) else "partly loaded"
        if _CARD not in ready:
            return ServedModel(name, state)
        parameters = self._control.config(full_name(name, _CARD)).parameters
        values = {key: value.string_value for key, value in parameters.items()}
        own = values.get("name", "")
        return ServedModel(
            name, state, own if own != name else None, values.get("fingerprint", ""), values.get("checkpoint", "")
        )

    def _states(self) -> dict[str, dict[str, str]]:
        """Return the states of the Triton models of each repository and alias, by the model's own name."""
        found: dict[str, dict[str, str]] = {}
        for listed, state in self._control.states().items():
            split = name_and_model(listed)
            if split is not None:
                found.setdefault(split[0], {})[split[1]] = state
        return found

    def _unload_all(self, name: str, models: list[str]) -> None:
        """Unload the ensembles, then their steps as soon as no request passes through them."""
        ensembles = [model for model in models if model in ENSEMBLES]
        for group in (ensembles, [model for model in models if model not in ENSEMBLES]):
            for model in group:
                self._control.unload(full_name(name, model))

            def is_over(group: list[str] = group) -> bool:
                now = self._states().get(name, {})
                return not any(now.get(model) in _ACTIVE for model in group)

            if not self._wait_for(is_over, self._timeout):
                raise ModelControlError(
                    f"{name!r} was still busy {self._timeout:.0f} s after the unload began; unload the model again"
                )

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition is true or some seconds have passed. Return whether the condition is true."""
        deadline = self._clock.now() + seconds
        while not (is_true := condition()) and self._clock.now() < deadline:
            self._clock.pause(_POLL_SECONDS)
        return is_true
