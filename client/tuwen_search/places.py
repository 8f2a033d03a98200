"""The names of the places in a store that hold the vectors of a collection."""

from __future__ import annotations

__all__ = ["collection_of", "is_place_of", "place_name"]

_DIGITS = 12  # of the fingerprint
_BUILDING = "_building"


def place_name(collection: str, fingerprint: str, *, complete: bool = True) -> str:
    """Return the name of the place that holds a collection's vectors after a migration to an embedding space."""
    return f"{collection}__{fingerprint[:_DIGITS]}{'' if complete else _BUILDING}"


def is_place_of(place: str, collection: str) -> bool:
    """Return whether a place may hold vectors of a collection. Only the fingerprint of the place is certain."""
    return place == collection or place.startswith(f"{collection}__")


def collection_of(place: str, fingerprint: str) -> str:
    """Return the name of the collection whose vectors a place holds."""
    for complete in (True, False):
        suffix = place_name("", fingerprint, complete=complete)
        if place.endswith(suffix) and place != suffix:
            return place.removesuffix(suffix)
    return place
