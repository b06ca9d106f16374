"""What can be wrong with feature views, the features asked of them, and joins of them."""

from collections.abc import Iterable
from difflib import get_close_matches


class FeatureError(Exception):
    """Anything wrong with features. The message says what, where, the value and the next step."""


class FeatureViewError(FeatureError):
    """Feature views are declared wrongly; one line a problem, with model, YAML file, key, value."""


class UnknownFeatureError(FeatureError, LookupError):
    """A feature view, feature or entity column that does not exist was asked for."""


class PointInTimeJoinError(FeatureError):
    """A join cannot be made from this spine and these selections."""


def nearest(value: object, names: Iterable[str]) -> str:
    """Return the part of an error message that leads from a wrong name to the right one.

    Parameters
    ----------
    value
        What was written.
    names
        What could have been meant.

    Returns
    -------
    str
        ``did you mean 'x'?`` where something is close, else the list of all valid names.
    """
    by_folded = {name.casefold(): name for name in names}
    close = get_close_matches(str(value).casefold(), by_folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean {by_folded[close[0]]!r}?"
    return f"valid: {', '.join(sorted(by_folded.values()))}" if by_folded else "there is none"
