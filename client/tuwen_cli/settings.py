"""`tuwen settings`: every environment variable, its value, and where the value comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tuwen_cli.options import JsonOption, print_json, print_table

__all__ = ["SETTINGS", "Setting", "settings"]


@dataclass(frozen=True)
class Setting:
    """One environment variable.

    Attributes:
        name: the name of the variable.
        meaning: the meaning of the value.
        default: the value if the variable is not set; empty: no default.
        secret: whether the value must not be shown.
    """

    name: str
    meaning: str
    default: str = ""
    secret: bool = False


SETTINGS = (
    Setting("TUWEN_URL", "address of the server's gRPC endpoint", "localhost:8001"),
    Setting("TUWEN_MODEL", "name of the model on a server with several"),
    Setting("TUWEN_CA", "PEM file of the trusted authorities; encrypts"),
    Setting("TUWEN_CERTIFICATE", "PEM file of the client's certificate"),
    Setting("TUWEN_KEY", "PEM file of the certificate's key"),
    Setting("TUWEN_TLS", "Locust: encrypt with the system's authorities"),
    Setting("TUWEN_HEADERS", "headers of every request, one in each line", secret=True),
    Setting("TUWEN_STORE", "the store of collections", "$XDG_DATA_HOME/tuwen/collections.db", secret=True),
    Setting("TUWEN_THRESHOLD", "file of `tuwen calibrate`, for the lowest score of a search"),
    Setting("TUWEN_EDGE_KEYS", "file with the hashes of API keys of the HTTP edge"),
    Setting("TUWEN_SERVER_KEY", "key of the server's restricted protocols", secret=True),
    Setting("TUWEN_SERVER_FOLDER", "folder of the embedded server", "$XDG_CACHE_HOME/tuwen/server"),
    Setting("TUWEN_PYTORCH_BACKEND", "folder of NVIDIA's libtriton_pytorch.so"),
    Setting("TUWEN_SLOW_INT8", "1 allows int8 without AVX-512 VNNI"),
    Setting("XDG_DATA_HOME", "folder of data that users keep", "~/.local/share"),
    Setting("XDG_CACHE_HOME", "folder of files that can be fetched again", "~/.cache"),
    Setting("HF_ENDPOINT", "address of a mirror of the Hugging Face hub", "https://huggingface.co"),
    Setting("HF_HUB_OFFLINE", "1 reads checkpoints from the cache of the hub only"),
    Setting("HF_HOME", "folder of the hub's cache", "$XDG_CACHE_HOME/huggingface"),
    Setting("HF_TOKEN", "token for the Hugging Face hub", secret=True),
    Setting("HTTPS_PROXY", "proxy for addresses with https, such as the hub's", secret=True),
    Setting("HTTP_PROXY", "proxy for addresses with http", secret=True),
    Setting("NO_PROXY", "hosts that need no proxy"),
)


def settings(as_json: JsonOption = False) -> None:
    """List every setting, its value now, and where the value comes from.

    Options of a command override environment variables, and variables override defaults. Secrets are not shown.
    """
    told = [_told(setting) for setting in SETTINGS]
    if as_json:
        print_json({"settings": told})
        return
    rows = [[row["name"], row["value"] or "-", row["origin"], row["meaning"]] for row in told]
    print_table("", ["variable", "value", "from", "meaning"], rows)


def _told(setting: Setting) -> dict[str, str]:
    given = os.environ.get(setting.name)
    if given:
        value, origin = ("set, not shown" if _hidden(setting, given) else given), "environment"
    else:
        value, origin = _expanded(setting.default), "default" if setting.default else "not set"
    return {
        "name": setting.name,
        "value": value,
        "origin": origin,
        "default": setting.default,
        "meaning": setting.meaning,
    }


def _hidden(setting: Setting, value: str) -> bool:
    """Return whether a value is a secret. The address of a store is a secret only if it has a password."""
    return setting.secret and (setting.name != "TUWEN_STORE" or "@" in value)


def _expanded(default: str) -> str:
    for name, folder in (("$XDG_DATA_HOME", "~/.local/share"), ("$XDG_CACHE_HOME", "~/.cache")):
        default = default.replace(name, os.environ.get(name[1:]) or folder)
    return str(Path(default).expanduser()) if default.startswith("~") else default
