"""Input and output files: folders of images, lines of text, and tables of vectors (``.npz``, ``.jsonl``, Parquet).

``image_files`` finds images, ``text_files`` reads lines of text. This package exports the embedding table.
"""

from tuwen_files._embedding_table import EmbeddingTable
from tuwen_files._table_files import check_key, check_suffix
from tuwen_files._table_writer import TableWriter

__all__ = ["EmbeddingTable", "TableWriter", "check_key", "check_suffix"]
