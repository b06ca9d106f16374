"""How often a caller may ask."""

import pytest

from mlops_assets.serving.security import RateLimitedError
from mlops_assets.serving.security.rate import RateLimiter


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def allowed(limiter: RateLimiter, caller: str, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            limiter.count(caller)
        except RateLimitedError:
            continue
        count += 1
    return count


def test_a_burst_then_the_rate() -> None:
    clock = Seconds()
    limiter = RateLimiter(10, 5, clock=clock)
    assert allowed(limiter, "shop", 20) == 5
    clock.now += 0.1001
    assert allowed(limiter, "shop", 20) == 1
    clock.now += 0.3001
    assert allowed(limiter, "shop", 20) == 3
    clock.now += 1e6
    assert allowed(limiter, "shop", 20) == 5


def test_callers_do_not_take_from_each_other() -> None:
    limiter = RateLimiter(1, 2, clock=Seconds())
    assert [allowed(limiter, name, 5) for name in ("shop", "bank")] == [2, 2]


def test_over_time_exactly_the_rate_passes() -> None:
    clock = Seconds()
    limiter = RateLimiter(7, 3, clock=clock)
    passed = 0
    for _ in range(10_000):
        passed += allowed(limiter, "shop", 1)
        clock.now += 0.01
    assert abs(passed - 7 * 100 - 3) <= 1


def test_retry_after_is_when_it_passes() -> None:
    clock = Seconds()
    limiter = RateLimiter(0.25, 1, clock=clock)
    limiter.count("shop")
    with pytest.raises(RateLimitedError) as refused:
        limiter.count("shop")
    assert dict(refused.value.headers)[b"retry-after"] == b"4"
    assert refused.value.status == 429
    clock.now += 4
    limiter.count("shop")


def test_no_rate_is_no_limit() -> None:
    assert allowed(RateLimiter(None, 1, clock=Seconds()), "shop", 1000) == 1000
