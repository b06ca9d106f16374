"""Numbers and intervals as people read them, the same on every page, in every log and table."""


def number_text(value: float, like: float | None = None) -> str:
    """Return a number with as many digits as one of its size needs.

    Parameters
    ----------
    value
        The number.
    like
        Another whose digits it shall have. Default: its own.
    """
    size = abs(value if like is None else like)
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.01 else 4
    return f"{value:z.{digits}f}"


def interval_text(low: float, high: float, value: float = 0.0) -> str:
    """Return the ends of an interval, with the digits of the largest of them and its value."""
    like = max(abs(value), abs(low), abs(high))
    return f"{number_text(low, like)} to {number_text(high, like)}"


def measured_text(value: float, low: float | None, high: float | None) -> str:
    """Return a value with the digits of its interval's larger end, so that both line up."""
    return number_text(value, max(abs(end) for end in (value, low, high) if end is not None))
