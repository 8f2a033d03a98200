"""What services are measured with: photographs and queries, and callers that send them."""

from tuwen_build.traffic._load import Answers, Ask, saturate, send_at
from tuwen_build.traffic._work import photographs, queries

__all__ = ["Answers", "Ask", "photographs", "queries", "saturate", "send_at"]
