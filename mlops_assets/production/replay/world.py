"""The world that a replay lives in: what there is, who serves, and what time it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from mlops_assets.alerting import AlertBook, AlertsDeclaration
from mlops_assets.features import FeatureRegistry
from mlops_assets.production.platform import Platform
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlops_assets.registry import ModelVersion
    from mlops_assets.training.estimators import Estimator


@dataclass
class World:
    """The state of a replay. Whoever lives in it moves its clock.

    Attributes
    ----------
    platform
        Of the replay's own home.
    family, views
        Whose history it is, and the features there are.
    first, last
        The days, both inclusive.
    now
        The instant that it is.
    trained_at
        When each version was trained, by this clock.
    last_started
        When the last training began; None where there was none.
    """

    platform: Platform
    family: ModelFamily
    views: FeatureRegistry
    first: date
    last: date
    now: datetime
    trained_at: dict[int, datetime] = field(default_factory=dict)
    last_started: datetime | None = None
    _loaded: dict[int, "Estimator"] = field(default_factory=dict)

    def champion(self) -> "ModelVersion":
        """Return who serves."""
        return self.platform.registry.find(f"{self.family.name}@champion")

    def load(self, version: "ModelVersion") -> "Estimator":
        """Return a version's model; each is loaded once."""
        if version.version not in self._loaded:
            self._loaded[version.version] = self.platform.registry.load(version)
        return self._loaded[version.version]

    def book(self, declaration: AlertsDeclaration) -> AlertBook:
        """Return an alert book that goes by this clock."""
        return AlertBook(self.platform.lake, declaration, clock=lambda: self.now)

    def score_from(self, day: date) -> None:
        """Have the champion answer every row from a day to the last.

        What is joined to a row is what was known at its prediction time. So scoring days ahead
        gives the rows that scoring each of them in its turn would give, as long as the champion
        stays; who replaces it answers the days to come again.
        """
        if day <= self.last:
            self.score(self.champion(), day, self.last + timedelta(days=1))

    def score(self, version: "ModelVersion", first: date, end: date) -> None:
        """Have a version answer every row of some days; ``end`` is exclusive."""
        from mlops_assets.serving.batch_scoring import score_days

        score_days(
            self.platform.lake,
            self.family,
            self.views,
            self.load(version),
            version,
            (first, end),
        )

    def predictions(self) -> Mapping[date, int]:
        """Return how many predictions there are of each day."""
        from mlops_assets.serving.batch_scoring import DAY, predictions_table

        table = predictions_table(self.family.name)
        with self.platform.lake.connect(tables=[table]) as con:
            return dict(
                con.execute(f"SELECT {DAY}, count(*) FROM {table.sql} GROUP BY ALL").fetchall()
            )
