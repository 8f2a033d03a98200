"""The generations of a collection. A generation holds the collection's vectors in one embedding space.

Each generation is one collection in Milvus, which this package calls a place. A new collection has one generation, and
each migration to another model adds a generation. The newest complete generation is the current one.

The place of a later generation is named after the collection, followed by the beginning of the fingerprint and, until
the switch, ``_building``. Clients of an older model use the older generation until it is dropped. So searches work
before, during and after the switch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuwen import EmbeddingSpaceError, ModelCard
from tuwen_search.errors import CollectionNotFoundError, QueryError
from tuwen_search.places import place_name
from tuwen_search.store import MilvusStore, Space

__all__ = [
    "Generation",
    "chosen_generations",
    "copy_collection",
    "current_generation",
    "drop_generations",
    "generation_for",
    "generations_of",
    "rename_collection",
]


@dataclass(frozen=True)
class Generation:
    """The vectors of a collection in one embedding space.

    Attributes:
        collection: the name of the collection.
        place: the name of the Milvus collection that holds the vectors.
        space: the embedding space.
        complete: whether the generation can be searched; False while a migration fills it.
    """

    collection: str
    place: str
    space: Space
    complete: bool = True


def generations_of(store: MilvusStore, collection: str) -> list[Generation]:
    """Return the generations of a collection, the newest first, including incomplete ones.

    Raises:
        CollectionNotFoundError: the store has no such collection.
        StoreError: the store failed.
    """
    found = []
    for place in store.places(collection):
        space = store.found_space(place)
        if space is None:
            continue
        complete = place in (collection, place_name(collection, space.fingerprint))
        if complete or place == place_name(collection, space.fingerprint, complete=False):
            found.append(Generation(collection, place, space, complete))
    if not any(generation.complete for generation in found):
        store.space(collection)  # raises the error that lists the known collections
    return sorted(found, key=lambda generation: -generation.space.generation)


def current_generation(store: MilvusStore, collection: str) -> Generation:
    """Return the newest generation that is complete.

    Raises:
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    return next(generation for generation in generations_of(store, collection) if generation.complete)


def generation_for(store: MilvusStore, collection: str, card: ModelCard) -> Generation:
    """Return the complete generation with the vectors of a server's model, given by its card.

    Raises:
        EmbeddingSpaceError: no complete generation belongs to this model.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    found = generations_of(store, collection)
    mine = next((generation for generation in found if generation.space.fingerprint == card.fingerprint), None)
    if mine is not None and mine.complete:
        return mine
    space = current_generation(store, collection).space
    if mine is not None:
        where = (
            f"the migration of '{collection}' to {card.checkpoint} is not finished (run `tuwen migrate {collection}` "
            "again): this server's vectors"
        )
    else:
        where = f"'{collection}' was made with {space.checkpoint}, and this server runs {card.checkpoint}: its vectors"
    raise EmbeddingSpaceError(space.fingerprint, card.fingerprint, where)


def rename_collection(store: MilvusStore, collection: str, new: str) -> None:
    """Rename a collection with all its generations.

    Raises:
        QueryError: the new name is taken, or Milvus does not accept it.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    found = generations_of(store, collection)
    _check_free(store, new)
    for generation in found:
        store.rename(generation.place, new + generation.place.removeprefix(collection))


def copy_collection(store: MilvusStore, collection: str, new: str, target: MilvusStore | None = None) -> int:
    """Copy the current generation of a collection, and return the number of pictures.

    Args:
        target: the store of the copy; None: the same store.

    Raises:
        QueryError: the new name is taken, or Milvus does not accept it.
        DiskFullError: the disk of the target has too little free space.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    place = current_generation(store, collection).place
    _check_free(target or store, new)
    return store.copy(place, new, target)


def chosen_generations(store: MilvusStore, collection: str, fingerprint: str | None = None) -> list[Generation]:
    """Return all generations of a collection, or the generation in an embedding space.

    If the chosen generation is the only complete one, the incomplete generations are returned, too.

    Args:
        fingerprint: the fingerprint of the space, or its beginning; None: all generations.

    Raises:
        QueryError: the fingerprint belongs to no generation, or to several.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    found = generations_of(store, collection)
    if fingerprint is None:
        return found
    chosen = [one for one in found if fingerprint and one.space.fingerprint.startswith(fingerprint)]
    if len(chosen) != 1:
        known = ", ".join(one.space.fingerprint for one in found)
        raise QueryError(
            f"expected the fingerprint of one space of '{collection}', got '{fingerprint}', which matches "
            f"{len(chosen)} spaces; the spaces of the collection: {known}"
        )
    rest = [one for one in found if one not in chosen]
    return chosen if any(one.complete for one in rest) else found


def drop_generations(store: MilvusStore, generations: Sequence[Generation]) -> None:
    """Remove the vectors of some generations, the oldest generation first."""
    for generation in sorted(generations, key=lambda one: one.space.generation):
        store.drop(generation.place)


def _check_free(store: MilvusStore, collection: str) -> None:
    try:
        generations_of(store, collection)
    except CollectionNotFoundError:
        return
    raise QueryError(f"{store.url} already has a collection {collection}; choose another name, or drop that collection")
