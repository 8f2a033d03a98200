"""Embed the pictures of a product list as a batch job that can be stopped and started again."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tuwen import Client
from tuwen_files import TableWriter


def main(
    products: Annotated[Path, typer.Argument(help="A CSV file with the columns id and picture (a path).")],
    output: Annotated[Path, typer.Option(help="The .npz or .parquet file to write.")] = Path("vectors.npz"),
    patience: Annotated[
        float, typer.Option(help="Maximum seconds to wait for a server that does not respond.")
    ] = 600.0,
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC endpoint.")] = "localhost:8001",
) -> None:
    """Write a vector for each product. Run the same command again to resume, or to add new products.

    Products whose picture is refused are listed in OUTPUT.refused.csv. The exit code is then 1.
    """
    written, refused = 0, []
    # A server with queue policies handles bulk requests only while no other request waits.
    with Client(url, priority="bulk") as clip:
        card = clip.model_card(timeout=patience)
        with TableWriter(output, card.fingerprint, card.embedding_dimension) as table:
            for item in clip.stream_images(read(products), skip=table.done, progress=True, timeout=patience):
                if item.ok:
                    table.add(str(item.key), item.embedding)
                    written += 1
                else:
                    refused.append([item.key, item.error.reason, item.error.message])
    listing = output.with_name(f"{output.name}.refused.csv")
    listing.unlink(missing_ok=True)
    print(f"{output}: {written} new vectors, {len(refused)} products refused")
    if refused:
        with listing.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "reason", "message"], *refused])
        raise typer.Exit(1)


def read(products: Path) -> Iterator[tuple[str, Path]]:
    """Yield the id and the picture of each product. Paths in the list are relative to the folder of the list."""
    with products.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["id"], products.parent / row["picture"]


if __name__ == "__main__":
    typer.run(main)
