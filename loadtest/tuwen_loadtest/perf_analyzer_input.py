"""Write pictures as the input file of NVIDIA's perf_analyzer.

python -m tuwen_loadtest.perf_analyzer_input FOLDER [--output images.json] [--limit 1000]
"""

from __future__ import annotations

import argparse
import base64
import json
import struct
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from tuwen import TuwenError
from tuwen_files.image_files import IMAGE_SUFFIXES, image_files

__all__ = ["main", "perf_analyzer_input"]


def perf_analyzer_input(images: Iterable[bytes]) -> str:
    """Return the JSON that ``perf_analyzer -m image_embedding --input-data`` reads.

    perf_analyzer copies decoded base64 into the tensor as it is. An item of a BYTES tensor begins with its length, four
    bytes in little-endian order, so the length is encoded together with the image.

    Args:
        images: the pictures as encoded files, such as JPEG.
    """
    items = [base64.b64encode(struct.pack("<I", len(image)) + image).decode("ascii") for image in images]
    return json.dumps({"data": [{"image": {"b64": item}} for item in items]})


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pictures of a folder into the input file. Exit with a message if the folder has no pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m tuwen_loadtest.perf_analyzer_input", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="folder with the pictures; subfolders are searched too")
    parser.add_argument("--output", type=Path, default=Path("images.json"), help="file to write (default: images.json)")
    parser.add_argument("--limit", type=int, default=1000, help="maximum number of pictures (default: 1000)")
    options = parser.parse_args(arguments)
    try:
        images = [path.read_bytes() for path in islice(sorted(image_files(options.folder)), options.limit)]
    except TuwenError as error:
        parser.error(str(error))
    if not images:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        parser.error(f"expected pictures in '{options.folder}', found no file that ends in {suffixes}")
    options.output.write_text(perf_analyzer_input(images), encoding="ascii")
    sys.stdout.write(f"{options.output}: {len(images)} pictures\n")


if __name__ == "__main__":
    main()
