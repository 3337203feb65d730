"""Counts of what took how long."""

from peerd.model.histogram import Histogram, HistogramView


def test_each_bound_counts_everything_up_to_it() -> None:
    histogram = Histogram((0.1, 1.0))
    assert histogram.view() == HistogramView(((0.1, 0), (1.0, 0)), 0, 0.0)
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds)
    assert histogram.view() == HistogramView(((0.1, 2), (1.0, 3)), 4, 7.65)
