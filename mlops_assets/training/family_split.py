"""The declaration of a family's split: which days it learns from, and on which it is judged.

Here is what is declared and which days that means. Whether rows lie in them is known with a lake at
hand (`mlops_assets.training.training_set`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from pydantic import Field

from mlops_assets.declaration import Declared, Problem, constraint
from mlops_assets.training.family_fields import Identifier

_DAYS = ("train_start", "train_end", "validation_end", "test_end")


@dataclass(frozen=True)
class SplitDays:
    """The days of a split. Each part begins where the one before it ends; ends are exclusive.

    Attributes
    ----------
    train_start
        First day of the training part; None for the first there is.
    train_end, validation_end, test_end
        First day that is no longer in the part.
    """

    train_start: date | None
    train_end: date
    validation_end: date
    test_end: date


class RollingSplit(Declared):
    """How long the parts are once days have come that the split's own do not reach.

    Attributes
    ----------
    validation_days, test_days
        Length of these parts. The test part ends with the newest day of which the labels are known,
        the validation part where the test part begins.
    train_days
        Length of the training part. Default: all days before, from `train_start` on.
    """

    validation_days: int = Field(ge=1)
    test_days: int = Field(ge=1)
    train_days: int | None = Field(default=None, ge=1)


class SplitDeclaration(Declared):
    """Time-ordered split. Each part begins where the one before it ends; ends are exclusive.

    Attributes
    ----------
    train_start
        First day of the training part; default: the first there is.
    train_end, validation_end, test_end
        First day that is no longer in the part.
    rolling
        How the parts move on, so that training again learns from newer days, once there are days
        with known labels from `test_end` on. Default: they stay, whatever comes.
    column
        Spine column whose calendar day decides (a DATE or TIMESTAMP; for local calendars).
        Default: the prediction time, in UTC.
    """

    train_start: date | None = None
    train_end: date
    validation_end: date
    test_end: date
    rolling: RollingSplit | None = None
    column: Identifier | None = None

    @constraint
    def _every_part_has_days(self) -> Iterator[Problem]:
        given = [name for name in _DAYS if name in self.__dict__ and getattr(self, name)]
        for earlier, later in pairwise(given):
            first, second = getattr(self, earlier), getattr(self, later)
            if first >= second:
                yield Problem(
                    (later,),
                    f"{second} must be after {earlier} {first}, or a part is empty.",
                )

    @constraint
    def _rolling_leaves_days_to_train_on(self) -> Iterator[Problem]:
        if self.rolling is None or self.train_start is None:
            return
        held = self.rolling.validation_days + self.rolling.test_days
        there = (self.test_end - self.train_start).days
        if held >= there:
            yield Problem(
                ("rolling",),
                f"validation_days and test_days are {held} together, and from train_start "
                f"{self.train_start} to test_end {self.test_end} there are {there}; none is left "
                "to train on.",
            )

    def days(self, newest: date | None = None) -> SplitDays:
        """Return the days of the parts, given how far labels reach.

        Parameters
        ----------
        newest
            Newest day of which the labels are known; None where there is none.
        """
        rolling = self.rolling
        if rolling is None or newest is None or newest < self.test_end:
            return SplitDays(self.train_start, self.train_end, self.validation_end, self.test_end)
        return self.rolled(rolling, newest)

    def rolled(self, rolling: RollingSplit, newest: date) -> SplitDays:
        """Return the days of the parts that end with a day."""
        test_end = newest + timedelta(days=1)
        validation_end = test_end - timedelta(days=rolling.test_days)
        train_end = validation_end - timedelta(days=rolling.validation_days)
        start = self.train_start
        if rolling.train_days is not None:
            first = train_end - timedelta(days=rolling.train_days)
            start = first if start is None else max(start, first)
        return SplitDays(start, train_end, validation_end, test_end)
