"""The names of places. A place is a Milvus collection that holds one generation of a tuwen collection."""

from __future__ import annotations

__all__ = ["collection_of", "is_place_of", "place_name"]

_DIGITS = 12  # number of the fingerprint's digits in a place's name
_BUILDING = "_building"


def place_name(collection: str, fingerprint: str, *, complete: bool = True) -> str:
    """Return the name of the place (a Milvus collection) for a tuwen collection after a migration."""
    return f"{collection}__{fingerprint[:_DIGITS]}{'' if complete else _BUILDING}"


def is_place_of(place: str, collection: str) -> bool:
    """Return whether the name of a place may belong to a tuwen collection.

    A place is a Milvus collection. To be certain, compare with `collection_of`, which also needs the fingerprint.
    """
    return place == collection or place.startswith(f"{collection}__")


def collection_of(place: str, fingerprint: str) -> str:
    """Return the name of the tuwen collection to which a place belongs.

    Args:
        place: the name of a Milvus collection.
        fingerprint: the fingerprint of the vectors in this Milvus collection.
    """
    for complete in (True, False):
        suffix = place_name("", fingerprint, complete=complete)
        if place.endswith(suffix) and place != suffix:
            return place.removesuffix(suffix)
    return place
