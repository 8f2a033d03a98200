"""The load for measuring a service: photographs and queries, and callers that send them."""

from tuwen_server.traffic._load import Answers, Ask, AsyncAsk, saturate, send_at
from tuwen_server.traffic._payloads import CALLERS, Work, distinct_query, photographs, queries
from tuwen_server.traffic._quantiles import latency_quantile

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
