"""Flag pictures for review by zero-shot, with a threshold that is chosen from pictures that people have judged."""

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
    subject: Annotated[list[str], typer.Option(help="What is to be flagged. Repeat the option for more subjects.")],
    recall: Annotated[float, typer.Option(help="The share of judged pictures with yes that must be flagged.")] = 0.95,
    url: Annotated[str, typer.Option(help="The address of the server.")] = "localhost:8001",
) -> None:
    """Print the pictures whose cosine with a subject reaches the threshold, the most certain first."""
    with judged.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    flags = np.array([row["flag"] == "yes" for row in rows])
    if not flags.any() or flags.all():
        raise typer.BadParameter(f"expected pictures of both kinds in '{judged}', yes and no")
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

    Probabilities do not serve here: they compare the subjects with each other, and most pictures show none of them.
    """
    best: NDArray[np.float32] = clip.classify(pictures, subjects).scores.cosine.max(axis=1)
    return best


def choose_threshold(cosines: NDArray[np.float32], flags: NDArray[np.bool_], recall: float) -> float:
    """Return the highest threshold that flags the wanted share of the judged pictures.

    The threshold lies halfway between the last picture that it flags and the next picture below.
    """
    wanted = np.sort(cosines[flags])[::-1]
    last = wanted[max(1, int(np.ceil(recall * len(wanted)))) - 1]
    below = cosines[cosines < last]
    return float((last + below.max()) / 2 if len(below) else last)


if __name__ == "__main__":
    typer.run(main)
