"""Vacuum takes nothing that a version needs which serves or may serve again."""

from datetime import UTC, datetime, timedelta

from mlops_assets.lake import DataFileMissingError, Lake
from mlops_assets.registry import ModelReference, ModelVersion, Registry, promotion
from mlops_assets.registry.retention import KEPT_FOR, eligible_versions, release_pins
from mlops_assets.training import ModelFamily
from mlops_assets.training.training_set import TrainingSet
from tests.registry.conftest import judge_version, make_version

FAMILY = "late_flights"
Two = tuple[ModelVersion, ModelVersion]


def later() -> datetime:
    return datetime.now(UTC) + KEPT_FOR + timedelta(days=1)


def names(versions: tuple[ModelVersion, ...]) -> list[str]:
    return [str(version) for version in versions]


def test_a_version_that_never_served_is_eligible_while_it_is_young(
    registry: Registry, two_versions: Two
):
    assert names(eligible_versions(registry, FAMILY)[0]) == ["late_flights/2", "late_flights/1"]
    eligible, others = eligible_versions(registry, FAMILY, now=later())
    assert names(eligible) == ["late_flights/1"]  # the champion
    assert names(others) == ["late_flights/2"]


def test_who_ever_served_stays_eligible_and_so_does_who_waits(
    registry: Registry, two_versions: Two, family: ModelFamily, training_set: TrainingSet
):
    weak, strong = two_versions
    judge_version(registry, family, strong)
    linear = make_version(registry, family, training_set, "linear")
    promotion.promote_by_hand(registry, ModelReference(FAMILY, 3), actor="ann", reason="drill")
    assert registry.find(str(weak)).aliases == ()  # neither champion nor previous
    waiting = make_version(registry, family, training_set, "weak")
    promotion.set_challenger(registry, waiting)
    eligible, others = eligible_versions(registry, FAMILY, now=later())
    assert names(eligible) == names((waiting, linear, strong, weak))
    assert others == ()


def test_releasing_lets_vacuum_have_what_only_the_ineligible_need(
    registry: Registry, two_versions: Two, lake: Lake, training_set: TrainingSet
):
    weak, strong = two_versions
    table = training_set.version.table
    lake.overwrite(table, lake.read(table).read_all())
    assert release_pins(registry, FAMILY) == []
    assert names(tuple(release_pins(registry, FAMILY, now=later()))) == [str(strong)]
    assert {pin.owner for pin in lake.pins()} == {str(weak)}
    lake.vacuum(table, timedelta(0), dry_run=False)
    assert lake.read(table, weak.training_set.version).read_all().num_rows > 0

    lake.unpin(str(weak))
    lake.vacuum(table, timedelta(0), dry_run=False)
    try:
        lake.read(table, weak.training_set.version).read_all()
    except (DataFileMissingError, LookupError):
        return
    raise AssertionError("nothing held the files, and still vacuum kept them")
