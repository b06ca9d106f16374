"""The histogram that takes many observations at one go."""

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.samples import Sample

from mlops_assets.serving.histograms import BulkHistogram

_BOUNDS = (1.0, 2.0, 4.0)
_AMOUNTS = (0.5, 1.0, 1.5, 2.0, 4.0, 4.5, 100.0, 1.0)


def samples(registry: CollectorRegistry) -> list[Sample]:
    return [
        sample
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]


def test_many_at_one_go_count_as_one_by_one() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("seconds", "Seconds.", ("route",), buckets=_BOUNDS, registry=ours)
    plain = Histogram("seconds", "Seconds.", ("route",), buckets=_BOUNDS, registry=theirs)
    bulk.labels("a").observe_all(_AMOUNTS[:5])
    bulk.labels("a").observe_all(_AMOUNTS[5:])
    for amount in _AMOUNTS:
        plain.labels("a").observe(amount)
    assert samples(ours) == samples(theirs)
