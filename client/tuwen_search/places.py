"""The names under which a store has the vectors of a collection. Pure."""

from __future__ import annotations

__all__ = ["collection_of", "is_place_of", "place_name"]

_DIGITS = 12  # of the fingerprint
_BUILDING = "_building"


def place_name(collection: str, fingerprint: str, *, complete: bool = True) -> str:
    """Return the name of the place of a collection's vectors in an embedding space to which it was migrated."""
    return f"{collection}__{fingerprint[:_DIGITS]}{'' if complete else _BUILDING}"


def is_place_of(place: str, collection: str) -> bool:
    """Return whether a place may hold vectors of a collection; only its fingerprint tells for certain."""
    return place == collection or place.startswith(f"{collection}__")


def collection_of(place: str, fingerprint: str) -> str:
    """Return the name of the collection whose vectors are at a place."""
    for complete in (True, False):
        suffix = place_name("", fingerprint, complete=complete)
        if place.endswith(suffix) and place != suffix:
            return place.removesuffix(suffix)
    return place
