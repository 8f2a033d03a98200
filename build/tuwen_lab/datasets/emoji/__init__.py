"""An image-text dataset of emoji artwork with Chinese names, from packages whose licences allow this use.

The demo checkpoint is trained on this dataset. Each maker's artwork is used for training or held out, as a whole.
"""

from tuwen_lab.datasets.emoji._classes import EmojiClass, Names, read_classes, read_names
from tuwen_lab.datasets.emoji._dataset import DatasetSummary, build_emoji_dataset
from tuwen_lab.datasets.emoji._packages import LABELS, SOURCES, Package, Source, fetch

__all__ = [
    "LABELS",
    "SOURCES",
    "DatasetSummary",
    "EmojiClass",
    "Names",
    "Package",
    "Source",
    "build_emoji_dataset",
    "fetch",
    "read_classes",
    "read_names",
]
