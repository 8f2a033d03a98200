"""The names of places. A place is a Milvus collection that holds the vectors of one generation of a collection."""

from __future__ import annotations

__all__ = ["collection_of", "is_place_of", "place_name"]

_DIGITS = 12  # number of the fingerprint's digits in a place's name
_BUILDING = "_building"


def place_name(collection: str, fingerprint: str, *, complete: bool = True) -> str:
    """Return the name of the Milvus collection for a migrated collection's vectors in an embedding space."""
    return f"{collection}__{fingerprint[:_DIGITS]}{'' if complete else _BUILDING}"


def is_place_of(place: str, collection: str) -> bool:
    """Return whether a Milvus collection may hold vectors of a collection, judged by its name.

    To be certain, compare with `collection_of`, which also needs the fingerprint of the vectors.
    """
    return place == collection or place.startswith(f"{collection}__")


def collection_of(place: str, fingerprint: str) -> str:
    """Return the name of the collection to which the vectors in a Milvus collection belong.

    Args:
        place: the name of the Milvus collection.
        fingerprint: the fingerprint of its vectors.
    """
    for complete in (True, False):
        suffix = place_name("", fingerprint, complete=complete)
        if place.endswith(suffix) and place != suffix:
            return place.removesuffix(suffix)
    return place
