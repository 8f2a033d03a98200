"""The generations of a collection: each holds its vectors in one embedding space. The newest one is current.

A collection is one place in the store until it is migrated to another model. Each migration makes another place. Its
name consists of the collection's name, the beginning of the fingerprint and, until the switch, ``_building``. Clients
of an older model use the older generation until it is dropped. So searches work before, during and after the switch.
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
        place: the name under which the store has the vectors.
        space: the embedding space.
        complete: whether it can be searched; false while a migration fills it.
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
        CollectionNotFoundError, StoreError: see `generations_of`.
    """
    return next(generation for generation in generations_of(store, collection) if generation.complete)


def generation_for(store: MilvusStore, collection: str, card: ModelCard) -> Generation:
    """Return the complete generation with the vectors of a server's model.

    Raises:
        EmbeddingSpaceError: no complete generation belongs to this model.
        CollectionNotFoundError, StoreError: see `generations_of`.
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
        CollectionNotFoundError, StoreError: see `generations_of`.
    """
    found = generations_of(store, collection)
    _check_free(store, new)
    for generation in found:
        store.rename(generation.place, new + generation.place.removeprefix(collection))


def copy_collection(store: MilvusStore, collection: str, new: str, target: MilvusStore | None = None) -> int:
    """Copy the current generation of a collection, and return the number of pictures; see `MilvusStore.copy`."""
    place = current_generation(store, collection).place
    _check_free(target or store, new)
    return store.copy(place, new, target)


def chosen_generations(store: MilvusStore, collection: str, fingerprint: str | None = None) -> list[Generation]:
    """Return all generations of a collection, or the generation in an embedding space.

    If the last complete generation is chosen, incomplete ones are returned, too.

    Args:
        fingerprint: the fingerprint of the space, or its beginning; None: all generations.

    Raises:
        QueryError: the fingerprint belongs to no generation, or to several.
        CollectionNotFoundError, StoreError: see `generations_of`.
    """
    found = generations_of(store, collection)
    if fingerprint is None:
        return found
    chosen = [one for one in found if fingerprint and one.space.fingerprint.startswith(fingerprint)]
    if len(chosen) != 1:
        known = ", ".join(one.space.fingerprint for one in found)
        raise QueryError(
            f"expected the fingerprint of one space of '{collection}', got '{fingerprint}', which {len(chosen)} have; "
            f"its spaces: {known}"
        )
    rest = [one for one in found if one not in chosen]
    return chosen if any(one.complete for one in rest) else found


def drop_generations(store: MilvusStore, generations: Sequence[Generation]) -> None:
    """Remove vectors, the oldest generation first."""
    for generation in sorted(generations, key=lambda one: one.space.generation):
        store.drop(generation.place)


def _check_free(store: MilvusStore, collection: str) -> None:
    try:
        generations_of(store, collection)
    except CollectionNotFoundError:
        return
    raise QueryError(f"{store.url} already has a collection {collection}; choose another name, or drop that collection")
