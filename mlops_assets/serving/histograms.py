"""A Prometheus histogram that takes many observations at one go."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from prometheus_client import Histogram


class BulkHistogram(Histogram):
    """A histogram whose shared file is written once for many observations, not for each."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe several amounts: the same as `observe` for each of them."""
        self._raise_if_not_observable()  # type: ignore[no-untyped-call] # the library's
        self._sum.inc(sum(amounts))
        places = Counter(bisect_left(self._upper_bounds, amount) for amount in amounts)
        for place, count in places.items():
            self._buckets[place].inc(count)
