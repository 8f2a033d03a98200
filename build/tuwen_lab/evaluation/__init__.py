"""Measurements of a served checkpoint's retrieval and zero-shot classification, for comparison with published numbers.

This package needs only the SDK, not torch or transformers.
"""

from tuwen_lab.evaluation._features import embed_split, evaluation_text, read_features
from tuwen_lab.evaluation._published import PUBLISHED, PublishedRecall, published_difference, published_recall
from tuwen_lab.evaluation._retrieval import (
    Features,
    Recall,
    RetrievalReport,
    recall,
    retrieval_report,
    top_candidates,
)
from tuwen_lab.evaluation._zero_shot import ZeroShotReport, evaluate_zero_shot, zero_shot_report

__all__ = [
    "PUBLISHED",
    "Features",
    "PublishedRecall",
    "Recall",
    "RetrievalReport",
    "ZeroShotReport",
    "embed_split",
    "evaluate_zero_shot",
    "evaluation_text",
    "published_difference",
    "published_recall",
    "read_features",
    "recall",
    "retrieval_report",
    "top_candidates",
    "zero_shot_report",
]
