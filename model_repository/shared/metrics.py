"""Custom Prometheus metrics of the Python models. On a server without metrics they do nothing."""

import triton_python_backend_utils as pb_utils

__all__ = ["Counter", "Histogram"]


class Counter:
    """A counter, with or without one label. `values` are the values of the label that start with a count of 0."""

    def __init__(self, name, description, label=None, values=(None,)):
        self._family = _family(name, description, "COUNTER")
        self._label = label
        self._metrics = {}
        for value in values:
            self.increment(value, by=0)  # Prometheus's rate() only shows the first failure after a 0

    def increment(self, value=None, by=1):
        if self._family is None:
            return
        if value not in self._metrics:
            self._metrics[value] = self._family.Metric(labels={self._label: value} if self._label else {})
        self._metrics[value].increment(by)


class Histogram:
    """A histogram without labels. `buckets` are the upper bounds of its buckets."""

    def __init__(self, name, description, buckets):
        family = _family(name, description, "HISTOGRAM")
        self._family = family  # kept, because a metric is deleted with its family
        self._metric = family and family.Metric(labels={}, buckets=list(buckets))

    def observe(self, value):
        if self._metric is not None:
            self._metric.observe(value)


def _family(name, description, kind):
    try:
        return pb_utils.MetricFamily(name=name, description=description, kind=getattr(pb_utils.MetricFamily, kind))
    except pb_utils.TritonModelException:  # the server was started with --allow-metrics=false
        return None
