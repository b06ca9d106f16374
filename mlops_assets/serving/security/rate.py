"""How often each caller may ask: a token bucket for each."""

import time
from collections.abc import Callable

from mlops_assets.serving.security.problems import RateLimitedError


class RateLimiter:
    """Lets each caller ask so often on average, and so many times at once after a pause.

    A bucket is one moment: the one at which it will be full again (the "virtual scheduling" form
    of the generic cell rate algorithm, ITU-T I.371). So a caller costs one number, and there are
    as many callers as tokens.

    Parameters
    ----------
    per_second
        Requests that flow back into a bucket; None is no limit.
    burst
        Requests a full bucket holds.
    clock
        Seconds that only rise.
    """

    def __init__(
        self,
        per_second: float | None,
        burst: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._interval = 0.0 if per_second is None else 1.0 / per_second
        self._full_at: dict[str, float] = {}

    def count(self, caller: str) -> None:
        """Count one request of a caller.

        Raises
        ------
        RateLimitedError
            When its bucket is empty; the request then does not count.
        """
        if self._per_second is None:
            return
        now = self._clock()
        full_at = max(self._full_at.get(caller, now), now) + self._interval
        wait = full_at - now - self._burst * self._interval
        # Rounding must not take the last request of a full bucket away.
        if wait > self._interval * 1e-6:
            raise RateLimitedError(
                f"{caller} may ask {self._per_second:g} times a second, and {self._burst} times "
                "at once",
                after=wait,
            )
        self._full_at[caller] = full_at
