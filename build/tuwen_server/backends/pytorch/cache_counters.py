"""The Prometheus counters of the text cache."""

import triton_python_backend_utils as pb_utils

__all__ = ["CacheCounters"]

_HITS = ("tuwen_text_cache_hits_total", "Texts whose vector was in the cache")
_MISSES = ("tuwen_text_cache_misses_total", "Texts whose vector had to be computed")


class CacheCounters:
    """The counters of hits and misses, summed over all instances of the model.

    On a server without metrics, nothing is counted.
    """

    def __init__(self):
        try:
            self._families = [
                _family(*_HITS),
                _family(*_MISSES),
            ]  # kept: a metric is deleted with its family
        except pb_utils.TritonModelException:  # the server was started with --allow-metrics=false
            self._families = []
        self._metrics = [family.Metric(labels={}) for family in self._families]
        self(0, 0)  # show 0 before the first count, instead of no counter

    def __call__(self, hits, misses):
        for metric, number in zip(self._metrics, (hits, misses)):
            metric.increment(number)


def _family(name, description):
    return pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
