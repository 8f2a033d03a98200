"""What services are measured with: photographs and queries, and callers that send them."""

from tuwen_build.traffic._load import Answers, Ask, AsyncAsk, saturate, send_at
from tuwen_build.traffic._work import CALLERS, Work, photographs, queries

__all__ = ["CALLERS", "Answers", "Ask", "AsyncAsk", "Work", "photographs", "queries", "saturate", "send_at"]
