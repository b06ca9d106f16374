"""Drift: known shifts are found, no change raises nothing, and what it says can be relied on."""

import json
from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from mlops_assets.monitoring import MonitoringError
from mlops_assets.monitoring.drift import (
    COMPARED,
    NO_ROWS,
    TOO_FEW,
    find_drift,
    jensen_shannon,
    kolmogorov_smirnov,
    stability_index,
)
from mlops_assets.monitoring.no_change import NoChange, day_effects
from mlops_assets.monitoring.profile import (
    MOST_LEVELS,
    LevelProfile,
    NumericProfile,
    ReferenceProfile,
    grid_for,
    profile_reference,
)
from mlops_assets.monitoring.reconstruction import (
    Reconstruction,
    fit_reconstruction,
    reconstruction_drift,
)
from mlops_assets.training.family_monitoring import DriftPolicy

COLUMNS = ("x", "minutes", "amount", "gaps", "carrier", "flag", "constant")
ROWS, DAYS = 60_000, 120


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    random = np.random.default_rng(5)
    day = np.repeat(np.arange(DAYS), ROWS // DAYS)
    x = random.normal(size=ROWS)
    frame = {
        "d": np.datetime64("2013-01-01") + day,
        "x": x,
        "y": x + 0.1 * random.normal(size=ROWS),
        "minutes": random.poisson(30, size=ROWS),
        "amount": np.exp(2 * random.normal(size=ROWS)),
        "gaps": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(size=ROWS)),
        "carrier": random.choice(["AA", "B6", "UA"], p=[0.5, 0.3, 0.2], size=ROWS),
        "flag": random.random(ROWS) < 0.3,
        "constant": np.ones(ROWS),
        "daily": random.normal(size=DAYS)[day] + 0.5 * random.normal(size=ROWS),
    }
    with duckdb.connect() as con:
        con.register("given", pa.table({name: pa.array(values) for name, values in frame.items()}))
        con.execute("CREATE TABLE reference AS FROM given WHERE d < DATE '2013-04-01'")
        con.execute("CREATE TABLE later AS FROM given WHERE d >= DATE '2013-04-01'")
        yield con


@pytest.fixture(scope="module")
def profile(con: duckdb.DuckDBPyConnection) -> ReferenceProfile:
    return profile_reference(con, "reference", COLUMNS, day="d", source="train")


def test_rows_of_the_same_distribution_raise_nothing(
    con: duckdb.DuckDBPyConnection, profile: ReferenceProfile
) -> None:
    report = find_drift(con, "later", profile, day="d")
    assert report.state == COMPARED
    assert report.drifted == ()
    assert report.days == 30


@pytest.mark.parametrize(
    ("column", "changed", "word"),
    [
        ("x", "x + 0.6", "Jensen"),
        ("minutes", "minutes + 4", "Jensen"),
        ("amount", "amount * 3", "Jensen"),
        ("gaps", "CASE WHEN hash(x) % 10 < 3 THEN NULL ELSE gaps END", "missing"),
        ("carrier", "CASE WHEN carrier = 'UA' THEN 'ZZ' ELSE carrier END", "ZZ"),
        ("flag", "flag OR hash(x) % 2 = 0", "Jensen"),
        ("constant", "constant + 1", "Jensen"),
        ("constant", "constant - 0.5", "Jensen"),
    ],
)
def test_a_shift_of_one_column_is_found_there_only(
    con: duckdb.DuckDBPyConnection,
    profile: ReferenceProfile,
    column: str,
    changed: str,
    word: str,
) -> None:
    report = find_drift(con, f"(SELECT * REPLACE ({changed} AS {column}) FROM later)", profile)
    assert report.drifted == (column,)
    [found] = [one for one in report.columns if one.drifted]
    assert any(word in reason for reason in found.reasons)


def test_distances_agree_with_scipy(
    con: duckdb.DuckDBPyConnection, profile: ReferenceProfile
) -> None:
    moved = "(SELECT * REPLACE (x + 0.3 AS x, minutes + 1 AS minutes) FROM later)"
    report = {one.column: one for one in find_drift(con, moved, profile).columns}
    for column in ("x", "minutes", "amount"):
        now, before = (
            con.execute(f"SELECT {column}::DOUBLE AS v FROM {relation}").fetchnumpy()["v"]
            for relation in (moved, "reference")
        )
        exact = ks_2samp(now, before).statistic
        found = report[column].kolmogorov_smirnov
        assert found is not None
        assert found.value <= exact + 1e-12
        assert exact <= found.value + report[column].kolmogorov_smirnov_error + 1e-12
        assert report[column].kolmogorov_smirnov_error < 0.01
    assert report["minutes"].kolmogorov_smirnov_error == 0


def test_distances_of_counts() -> None:
    now, before = np.array([30, 50, 20]), np.array([100, 100, 200])
    p, q = now / now.sum(), before / before.sum()
    assert jensen_shannon(now, before) == pytest.approx(jensenshannon(p, q, base=2))
    assert stability_index(now * 10**6, before * 10**6) == pytest.approx(
        ((p - q) * np.log(p / q)).sum(), rel=1e-4
    )
    assert stability_index(now, now * 7) == 0
    assert np.isfinite(stability_index(np.array([0, 10]), np.array([10, 0])))
    assert kolmogorov_smirnov(now, before, exact=True) == (pytest.approx(0.3), 0)


def test_thresholds_hold_by_chance_about_as_often_as_they_say() -> None:
    """Draw from one distribution and count how often chance is exceeded."""
    random = np.random.default_rng(3)
    shares, alpha, rounds = np.full(10, 0.1), 0.05, 2000
    for rows, reference in ((60, 5000), (900, 900)):
        chance = NoChange(rows, reference, 1, day_effects(np.ones((1, 1)), np.zeros(1)), alpha)
        now = random.multinomial(rows, shares, size=rounds)
        before = random.multinomial(reference, shares, size=rounds)
        pairs = list(zip(now, before, strict=True))
        psi = np.mean([stability_index(a, b) > chance.psi(10) for a, b in pairs])
        jensen = np.mean([jensen_shannon(a, b) > chance.jensen_shannon(10) for a, b in pairs])
        smirnov = np.mean(
            [
                kolmogorov_smirnov(a, b, exact=True)[0] > chance.kolmogorov_smirnov()
                for a, b in pairs
            ]
        )
        assert 0.02 < psi < 0.08
        assert 0.02 < jensen < 0.1  # the limit is for many rows
        assert smirnov <= 0.05


def test_days_that_differ_among_themselves_raise_the_threshold(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """A column that is another on every day drifts every day, unless days are told apart."""
    policy = DriftPolicy(jensen_shannon=0, alpha=0.01)
    days = con.execute("SELECT DISTINCT d FROM later ORDER BY d").fetchall()

    def alarms(profile: ReferenceProfile) -> int:
        return sum(
            bool(
                find_drift(
                    con, f"(FROM later WHERE d = TIMESTAMP '{day}')", profile, policy, day="d"
                ).drifted
            )
            for (day,) in days
        )

    blind = profile_reference(con, "reference", ["daily"])
    aware = profile_reference(con, "reference", ["daily"], day="d")
    assert alarms(blind) == len(days)
    assert alarms(aware) <= 2


def test_a_profile_is_kept_to_the_last_bit(
    con: duckdb.DuckDBPyConnection, profile: ReferenceProfile
) -> None:
    again = ReferenceProfile.from_json(profile.to_json())
    assert again == profile
    assert profile_reference(con, "reference", COLUMNS, day="d", source="train") == profile
    with pytest.raises(MonitoringError, match="format 99"):
        ReferenceProfile.from_json(json.dumps({"format": 99}))
    with pytest.raises(MonitoringError, match="no reference profile"):
        ReferenceProfile.from_json("{}")


def test_a_reference_without_rows_is_an_error_and_a_day_without_rows_a_state(
    con: duckdb.DuckDBPyConnection, profile: ReferenceProfile
) -> None:
    with pytest.raises(MonitoringError, match=r"train.*has no row"):
        profile_reference(con, "(FROM reference LIMIT 0)", ["x"], source="train")
    nothing = find_drift(con, "(FROM later LIMIT 0)", profile)
    assert (nothing.state, nothing.rows, nothing.columns, nothing.drifted_share) == (
        NO_ROWS, 0, (), 0.0,
    )  # fmt: skip
    assert find_drift(con, "(FROM later LIMIT 99)", profile).state == TOO_FEW


def test_columns_that_cannot_be_compared_are_named(
    con: duckdb.DuckDBPyConnection, profile: ReferenceProfile
) -> None:
    with pytest.raises(MonitoringError, match="no column carrier"):
        find_drift(con, "(SELECT * EXCLUDE (carrier) FROM later)", profile)
    with pytest.raises(MonitoringError, match="column x: is text, and was a number"):
        find_drift(con, "(SELECT * REPLACE (x::VARCHAR AS x) FROM later)", profile)
    with pytest.raises(MonitoringError, match="DATE has no drift"):
        profile_reference(con, "reference", ["d"])


def test_a_column_without_values_is_judged_by_what_is_missing(
    con: duckdb.DuckDBPyConnection,
) -> None:
    empty = profile_reference(con, "(SELECT NULL::DOUBLE AS v, d FROM reference)", ["v"], day="d")
    [found] = find_drift(con, "(SELECT x AS v FROM later)", empty).columns
    assert found.psi is None
    assert found.drifted
    full = profile_reference(con, "(SELECT x AS v, d FROM reference)", ["v"], day="d")
    [found] = find_drift(con, "(SELECT NULL::DOUBLE AS v FROM later)", full).columns
    assert found.missing_share == 1
    assert found.reasons == ("missing 100.0% instead of 0.0%, a change of 1.000 above 0.050",)


def test_infinite_and_absurd_values_do_not_spoil_the_bins(con: duckdb.DuckDBPyConnection) -> None:
    spoilt = "(SELECT x AS v FROM reference UNION ALL SELECT unnest([1e300, -1e300, 'inf', 'nan']))"
    profile = profile_reference(con, spoilt, ["v"])
    [column] = profile.columns
    assert isinstance(column, NumericProfile)
    assert column.missing == 1
    assert len(column.bins) >= 9
    [found] = find_drift(con, "(SELECT x + 0.6 AS v FROM later)", profile).columns
    assert found.drifted


def test_text_with_very_many_levels_is_not_searched_for_new_ones(
    con: duckdb.DuckDBPyConnection,
) -> None:
    many = f"(SELECT 'n' || i AS v FROM range({MOST_LEVELS + 5}) t(i))"
    profile = profile_reference(con, many, ["v"])
    [column] = profile.columns
    assert isinstance(column, LevelProfile)
    assert (len(column.levels), column.others, column.once) == (MOST_LEVELS, 5, MOST_LEVELS + 5)
    [found] = find_drift(con, "(SELECT 'new' AS v FROM range(500))", profile).columns
    assert found.new_levels is None


def test_levels_of_which_the_reference_saw_many_once_may_be_new(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """Where every tenth row of the reference was the first of its level, so may current ones be."""
    rare = "CASE WHEN hash(i) % 10 = 0 THEN 'rare' || i ELSE 'usual' END AS v"
    profile = profile_reference(con, f"(SELECT {rare} FROM range(5000) t(i))", ["v"])
    same = find_drift(con, f"(SELECT {rare} FROM range(10000, 11000) t(i))", profile)
    [found] = same.columns
    assert found.new_levels is not None
    assert found.new_levels.value > 0.05
    assert not found.new_levels.exceeded


def test_hostile_names_and_levels_are_only_text(con: duckdb.DuckDBPyConnection) -> None:
    relation = """(SELECT 'it''s "x"; --' AS "a ""b"" c", i AS "select" FROM range(500) t(i))"""
    profile = profile_reference(con, relation, ['a "b" c', "select"])
    assert find_drift(con, relation, profile).drifted == ()


def test_the_scale_follows_the_tail() -> None:
    random = np.random.default_rng(0)
    heavy = grid_for(np.exp(3 * random.normal(size=20_000)))
    assert heavy is not None
    assert heavy.centre is not None
    whole = grid_for(random.integers(0, 50, size=20_000).astype(float))
    assert whole is not None
    assert (whole.exact, whole.cells) == (True, 52)
    assert grid_for(np.array([np.nan])) is None


def test_columns_that_no_longer_go_together_are_found_by_reconstruction(
    con: duckdb.DuckDBPyConnection,
) -> None:
    fitted = fit_reconstruction(con, "reference", ["x", "y", "minutes", "carrier"], day="d")
    assert fitted is not None
    assert Reconstruction.from_json(fitted.to_json()) == fitted
    same = reconstruction_drift(con, "later", fitted, day="d")
    assert same is not None
    assert not same.exceeded
    apart = "(SELECT * REPLACE (-y AS y) FROM later)"  # each column by itself looks the same
    profile = profile_reference(con, "reference", ["x", "y"], day="d")
    assert find_drift(con, apart, profile, day="d").drifted == ()
    found = reconstruction_drift(con, apart, fitted, day="d")
    assert found is not None
    assert found.exceeded
    assert fit_reconstruction(con, "reference", ["x", "carrier", "constant"]) is None
    assert reconstruction_drift(con, "(FROM later LIMIT 5)", fitted) is None
