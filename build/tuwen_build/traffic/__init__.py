"""The load for measuring a service: photographs and queries, and callers that send them."""

from tuwen_build.traffic._load import Answers, Ask, AsyncAsk, saturate, send_at
from tuwen_build.traffic._quantiles import latency_quantile
from tuwen_build.traffic._work import CALLERS, Work, distinct_query, photographs, queries

__all__ = [
    "CALLERS",
    "Answers",
    "Ask",
    "AsyncAsk",
    "Work",
    "distinct_query",
    "latency_quantile",
    "photographs",
    "queries",
    "saturate",
    "send_at",
]
