"""Input and output files: folders of images, lines of text, and tables of vectors (``.npz``, Parquet).

The module ``image_files`` finds images, ``text_files`` reads lines of text, and ``file_versions`` detects changed
files. ``quantization`` converts vectors to smaller forms. This package exports `EmbeddingTable`.
"""

from tuwen_files._embedding_table import EmbeddingTable
from tuwen_files._table_files import check_key, check_suffix
from tuwen_files._table_update import TableUpdate, UpdateReport
from tuwen_files._table_writer import TableWriter

__all__ = ["EmbeddingTable", "TableUpdate", "TableWriter", "UpdateReport", "check_key", "check_suffix"]
