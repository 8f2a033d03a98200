"""Find duplicate pictures in a folder: copies, other sizes, other file formats, small edits."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tuwen import Client
from tuwen_files.image_files import image_files

BLOCK = 1024


def main(
    folder: Annotated[Path, typer.Argument(help="The folder to search, subfolders included.")],
    threshold: Annotated[
        float, typer.Option(help="The smallest cosine at which two pictures count as duplicates.")
    ] = 0.97,
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC endpoint.")] = "localhost:8001",
) -> None:
    """Print each group of duplicate pictures, with the largest file of the group first. No file is removed."""
    pictures, rows = [], []
    with Client(url) as clip:
        for item in clip.stream_images(image_files(folder), progress=True):
            if item.ok:
                pictures.append(Path(str(item.key)))
                rows.append(item.embedding)
            else:
                print(f"skipped {item.key}: {item.error.message}")
    found = groups(np.stack(rows), threshold) if rows else []
    for group in found:
        print()
        for picture in sorted((pictures[index] for index in group), key=lambda path: -path.stat().st_size):
            print(f"{picture.stat().st_size:>10,} bytes  {picture}")
    print(f"\n{len(found)} groups among {len(pictures)} pictures")


def groups(vectors: np.ndarray, threshold: float) -> list[list[int]]:
    """Return the groups of two or more vectors that are connected by cosines of at least the threshold.

    Cosines are computed in blocks of rows, because the whole matrix needs memory for n × n numbers.
    """
    group_of = list(range(len(vectors)))

    def root(index: int) -> int:
        while group_of[index] != index:
            group_of[index] = index = group_of[group_of[index]]
        return index

    for start in range(0, len(vectors), BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        for row, column in np.argwhere(cosines >= threshold):
            group_of[root(start + row)] = root(column)
    members: dict[int, list[int]] = {}
    for index in range(len(vectors)):
        members.setdefault(root(index), []).append(index)
    return [group for group in members.values() if len(group) > 1]


if __name__ == "__main__":
    typer.run(main)
