"""Label the pictures of a folder without training, and write the labels into a CSV file."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from tuwen import Classification, Client, InvalidItemsError
from tuwen_files.image_files import image_files

BATCH = 64


def main(
    folder: Annotated[Path, typer.Argument(help="The folder whose pictures are labelled, subfolders included.")],
    label: Annotated[
        list[str], typer.Option(help="A label for something that a picture may show. Repeat the option for each label.")
    ],
    output: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("labels.csv"),
    minimum: Annotated[
        float, typer.Option(help="The smallest cosine at which a picture gets a label. Below it, the label is empty.")
    ] = 0.0,
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC endpoint.")] = "localhost:8001",
) -> None:
    """Write one row for each picture: its path, its best label, the cosine and the probability among the labels."""
    pictures = list(image_files(folder))
    with Client(url) as clip, output.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["picture", "label", "cosine", "probability"])
        for start in range(0, len(pictures), BATCH):
            readable, found = classify(clip, pictures[start : start + BATCH], label)
            if found is None:
                continue
            for picture, best, scores, chances in zip(
                readable, found.best, found.scores.cosine, found.scores.probabilities, strict=True
            ):
                name = best if scores.max() >= minimum else ""
                rows.writerow([picture, name, f"{scores.max():.3f}", f"{chances.max():.3f}"])
    print(f"{output}: the labels of {len(pictures)} pictures")


def classify(clip: Client, pictures: list[Path], labels: list[str]) -> tuple[list[Path], Classification | None]:
    """Classify a batch of pictures. Pictures that cannot be decoded are reported and left out."""
    try:
        return pictures, clip.classify(pictures, labels)
    except InvalidItemsError as error:
        bad = {failure.index: failure.message for failure in error.failures}
    for index, message in bad.items():
        print(f"skipped {pictures[index]}: {message}")
    readable = [picture for index, picture in enumerate(pictures) if index not in bad]
    return readable, clip.classify(readable, labels) if readable else None


if __name__ == "__main__":
    typer.run(main)
