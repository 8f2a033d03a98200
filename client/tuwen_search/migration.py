"""The migration of a collection to another model: embed its pictures again, check the vectors, and switch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tuwen import Client, ModelCard
from tuwen_search.errors import MigrationError
from tuwen_search.generations import Generation, generations_of
from tuwen_search.indexing import Failure
from tuwen_search.originals import Original, Wanted, originals_of
from tuwen_search.places import place_name
from tuwen_search.reembedding import Reembedding
from tuwen_search.store import MilvusStore, Space

__all__ = ["MigrationReport", "migrate"]

_CHECKED = 32  # number of pictures that are embedded a second time
_LEAST_COSINE = 0.99  # minimum cosine of a picture's two vectors: batches of different sizes round differently


@dataclass
class MigrationReport:
    """The result of a migration.

    Attributes:
        collection: the name of the collection.
        old, new: the embedding spaces before and after the migration.
        pictures: the number of pictures in the new space.
        embedded: the number of pictures that this run embedded.
        updated: the number of pictures whose record changed and whose vector was kept.
        changed: the number of embedded pictures whose file changed after it was indexed.
        failures: pictures that cannot be read any more (``lost``), or that the server refused.
        checked: the number of pictures that were embedded a second time and compared.
        least_cosine: the smallest cosine between the two vectors of a checked picture.
        switched: whether searches use the new vectors now.
        seconds: the duration of the migration in seconds.
    """

    collection: str
    old: Space
    new: Space
    pictures: int = 0
    embedded: int = 0
    updated: int = 0
    changed: int = 0
    failures: list[Failure] = field(default_factory=list)
    checked: int = 0
    least_cosine: float = 1.0
    switched: bool = False
    seconds: float = 0.0


def migrate(
    store: MilvusStore, collection: str, client: Client, *, drop_missing: bool = False, progress: bool = False
) -> MigrationReport:
    """Embed the pictures of a collection with the client's model, check the vectors, and switch to them.

    Searches work during the migration. The next run resumes an interrupted run. Changes of the collection during the
    run are applied before the switch. After the switch, searches with the old model's server use the old vectors until
    these are dropped. Nothing can be added to the old vectors.

    Args:
        drop_missing: whether to switch even if some pictures cannot be embedded, and to leave these pictures out. By
            default, a failed picture prevents the switch.
        progress: whether to show a progress bar on standard error, if standard error is a terminal.

    Raises:
        MigrationError: the check failed, or the collection has no vectors of another model.
        CollectionNotFoundError, StoreError, ServerError: the collection does not exist, or a server failed. Finished
            work is kept.
    """
    start = time.monotonic()
    card = client.model_card()
    old, new = _generations(store, collection, card)
    for place in (old.place, new.place):
        store.load(place)
    report = MigrationReport(collection, old.space, new.space, switched=new.complete)
    run = Reembedding(store, old.place, new.place, client, only_missing=new.complete, progress=progress)
    if not new.complete:
        while run.catch_up():
            pass
        report.checked, report.least_cosine = _check(store, new, client, expected=run.expected)
        if drop_missing or not run.failures:
            place = place_name(collection, card.fingerprint)
            store.rename(new.place, place)  # the switch, in one step
            store.load(place)
            run.new, run.only_missing, report.switched = place, True, True
    if report.switched:
        run.catch_up()  # embed what was added between the last pass and the switch
    report.embedded, report.updated, report.changed = run.embedded, run.updated, run.changed
    report.failures, report.pictures = run.failures, store.count(run.new)
    report.seconds = time.monotonic() - start
    return report


def _generations(store: MilvusStore, collection: str, card: ModelCard) -> tuple[Generation, Generation]:
    """Return the old generation and the new one, which is created if it does not exist."""
    found = generations_of(store, collection)
    complete = [one for one in found if one.complete]
    mine = next((one for one in found if one.space.fingerprint == card.fingerprint), None)
    if mine is not None and mine.complete:
        if mine != complete[0]:
            newer = complete[0].space
            raise MigrationError(
                f"'{collection}' has older vectors of {card.checkpoint} and newer vectors of {newer.checkpoint}; to go "
                f"back to {card.checkpoint}, run: tuwen collections drop {collection} --space {newer.fingerprint}"
            )
        if len(complete) == 1:
            raise MigrationError(
                f"expected a server with another model than {card.checkpoint}, because '{collection}' already has "
                "the vectors of this model"
            )
        return complete[1], mine
    old = complete[0]
    if mine is not None and mine.space.generation <= old.space.generation:  # another migration has finished since
        store.drop(mine.place)
        mine = None
    if mine is None:
        space = Space(
            card.fingerprint, card.checkpoint, card.embedding_dimension, old.space.index, old.space.generation + 1
        )
        mine = Generation(collection, place_name(collection, card.fingerprint, complete=False), space, complete=False)
        store.create(mine.place, space)
    return old, mine


def _check(store: MilvusStore, new: Generation, client: Client, *, expected: int) -> tuple[int, float]:
    """Compare the number of vectors, and embed some pictures a second time.

    Returns:
        The number of pictures that were embedded twice, and the smallest cosine between the two vectors of a picture.

    Raises:
        MigrationError: the number of vectors is wrong, or a vector differs.
    """
    found = store.count(new.place)
    if found != expected:
        raise MigrationError(
            f"'{new.collection}' was not switched to the new model: expected {expected:,} new vectors, got {found:,}. "
            "Another migration may be running; run the same command again"
        )
    wanted: dict[str, list[Wanted]] = {}
    for row in store.sample(new.place, _CHECKED, ["source", "name", "sha256"]):
        wanted.setdefault(row["source"], []).append(Wanted(row["id"], row["source"], row["name"], row["sha256"]))
    images = (
        (original.wanted.id, original.data)
        for source, some in wanted.items()
        for original in originals_of(source, some)
        if isinstance(original, Original) and original.changed is None
    )
    again = {str(one.key): one.embedding for one in client.stream_images(images) if one.embedding is not None}
    kept = {key: vector for key, (_, vector) in store.get(new.place, list(again)).items()}
    cosines = {key: float(vector @ again[key]) for key, vector in kept.items()}
    least = min(cosines, key=lambda key: cosines[key], default="")
    if cosines and cosines[least] < _LEAST_COSINE:
        raise MigrationError(
            f"'{new.collection}' was not switched to the new model: the picture {least} was embedded twice, "
            f"and the cosine of its vectors is {cosines[least]:.3f}, expected at least {_LEAST_COSINE}. "
            "Check the server, drop the unfinished vectors (tuwen collections drop "
            f"{new.collection} --space {new.space.fingerprint}), and migrate again"
        )
    return len(cosines), min(cosines.values(), default=1.0)
