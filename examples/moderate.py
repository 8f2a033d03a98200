"""Flag pictures for review with zero-shot classification. Pictures that people have judged decide the threshold."""

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from tuwen import Client
from tuwen_files.image_files import image_files


def main(
    folder: Annotated[Path, typer.Argument(help="The folder whose pictures are checked, subfolders included.")],
    judged: Annotated[Path, typer.Option(help="A CSV file with the columns picture (a path) and flag (yes or no).")],
    subject: Annotated[
        list[str], typer.Option(help="A subject that must be flagged, in words. Repeat the option for more subjects.")
    ],
    recall: Annotated[
        float,
        typer.Option(help="Minimum share of the pictures with flag 'yes' that the threshold must find, from 0 to 1."),
    ] = 0.95,
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC endpoint.")] = "localhost:8001",
) -> None:
    """Print the pictures whose cosine with a subject reaches the threshold, the highest cosine first."""
    with judged.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    flags = np.array([row["flag"] == "yes" for row in rows])
    if not flags.any() or flags.all():
        raise typer.BadParameter(
            f"expected pictures with flag yes and with flag no in '{judged}', got only one of the two flags"
        )
    with Client(url) as clip:
        known = scores(clip, [judged.parent / row["picture"] for row in rows], subject)
        threshold = choose_threshold(known, flags, recall)
        found, others = (known[flags] >= threshold).sum(), (known[~flags] >= threshold).sum()
        print(f"threshold {threshold:.3f}: flags {found} of {flags.sum()} judged yes, {others} of {(~flags).sum()} no")
        pictures = list(image_files(folder))
        new = scores(clip, pictures, subject) if pictures else np.empty(0, np.float32)
    for index in np.argsort(-new):
        if new[index] >= threshold:
            print(f"{new[index]:.3f}  {pictures[index]}")


def scores(clip: Client, pictures: list[Path], subjects: list[str]) -> NDArray[np.float32]:
    """Return the highest cosine of each picture with any subject.

    Cosines are used instead of probabilities. Probabilities compare only the subjects with each other, and most
    pictures show none of the subjects.
    """
    best: NDArray[np.float32] = clip.classify(pictures, subjects).scores.cosine.max(axis=1)
    return best


def choose_threshold(cosines: NDArray[np.float32], flags: NDArray[np.bool_], recall: float) -> float:
    """Return the highest threshold that flags a share of the pictures judged yes.

    The threshold lies halfway between the lowest flagged cosine and the next lower cosine.

    Args:
        cosines: the cosine of each judged picture.
        flags: whether each picture was judged yes.
        recall: the share of the pictures judged yes that must be flagged.
    """
    wanted = np.sort(cosines[flags])[::-1]
    last = wanted[max(1, int(np.ceil(recall * len(wanted)))) - 1]
    below = cosines[cosines < last]
    return float((last + below.max()) / 2 if len(below) else last)


if __name__ == "__main__":
    typer.run(main)
