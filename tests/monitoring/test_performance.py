"""Performance: labels by what was known when, estimates that labels confirm, service health."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score

from mlops_assets.lake import Lake
from mlops_assets.monitoring import MonitoringError
from mlops_assets.monitoring.answered import LabelCounts, PredictionLog, read_labelled
from mlops_assets.monitoring.calibration import fit_calibration
from mlops_assets.monitoring.estimated import PerformanceEstimator, fit_estimator, soft_metrics
from mlops_assets.monitoring.performance import Kind, measure_performance
from mlops_assets.monitoring.service_health import measure_service
from mlops_assets.training import ModelFamily
from mlops_assets.training.tasks import Binary, Regression
from tests.monitoring.conftest import (
    DAYS,
    FIRST,
    LOG,
    OUTCOMES,
    PER_DAY,
    make_log,
    make_outcomes,
    probabilities,
)

LAST = date(2013, 3, 30)
LATER = datetime(2013, 6, 1, tzinfo=UTC)
DUE = timedelta(days=2)


def labelled_part(seed: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, answers and days of a validation part, calibrated by construction."""
    answers = probabilities(6000, seed)
    label = (np.random.default_rng(seed + 1).random(6000) < answers).astype(float)
    return label, answers, np.repeat(np.arange(30), 200)


def counts(lake: Lake, log: PredictionLog, family: ModelFamily, as_of: datetime) -> LabelCounts:
    with lake.connect() as con:
        return read_labelled(
            con, log, family, Binary(), FIRST.date(), LAST, as_of=as_of, due=DUE
        ).counts


def test_only_labels_known_by_then_count(
    lake: Lake, log: PredictionLog, family: ModelFamily
) -> None:
    lake.overwrite(LOG, make_log())
    lake.overwrite(OUTCOMES, make_outcomes())
    noon = FIRST + timedelta(days=10, hours=12)
    known = counts(lake, log, family, noon)
    instants = make_outcomes()["known_at"].to_pylist()
    assert known.labelled == sum(instant <= noon for instant in instants)
    assert known.pending == DAYS * PER_DAY - known.labelled
    assert known.overdue == 0
    assert counts(lake, log, family, LATER).labelled == DAYS * PER_DAY


def test_labels_that_never_come_come_twice_or_change_are_counted(
    lake: Lake, log: PredictionLog, family: ModelFamily
) -> None:
    lake.overwrite(LOG, make_log())
    outcomes = make_outcomes()
    dropped = outcomes.slice(3)  # the first three never come
    as_rows = outcomes.to_pylist()
    twice = {**as_rows[5], "known_at": as_rows[5]["known_at"] + timedelta(days=1)}
    changed = {**as_rows[6], "late": not as_rows[6]["late"], "known_at": twice["known_at"]}
    withdrawn = {**as_rows[7], "late": None, "known_at": twice["known_at"]}
    future = {**as_rows[8], "late": not as_rows[8]["late"], "known_at": LATER + DUE}
    more = pa.Table.from_pylist([twice, changed, withdrawn, future], schema=outcomes.schema)
    lake.overwrite(OUTCOMES, pa.concat_tables([dropped, more]))
    found = counts(lake, log, family, LATER)
    assert found == LabelCounts(
        predictions=DAYS * PER_DAY,
        labelled=DAYS * PER_DAY - 4,
        never=1,
        overdue=3,
        repeated=3,
        changed=1,
    )
    with lake.connect() as con:
        rows = read_labelled(
            con, log, family, Binary(), FIRST.date(), FIRST.date(), as_of=LATER, due=DUE
        ).rows
    by_answer = dict(zip(rows.answers.tolist(), rows.label.tolist(), strict=True))
    answers = probabilities(DAYS * PER_DAY)
    assert by_answer[answers[6]] == float(changed["late"])
    assert by_answer[answers[8]] == float(as_rows[8]["late"])


def test_predictions_without_features_or_answer_and_shadows(
    lake: Lake, log: PredictionLog, family: ModelFamily
) -> None:
    rows = make_log(300).to_pylist()
    rows[0]["wind"] = None
    rows[1]["answer"] = float("nan")
    rows[2]["answer"] = None
    rows[3]["role"] = "shadow"
    rows[4]["as_of"] = None  # then the instant of the answer stands for it
    lake.overwrite(LOG, pa.Table.from_pylist(rows, schema=make_log(1).schema))
    lake.overwrite(OUTCOMES, make_outcomes(300))
    found = counts(lake, log, family, LATER)
    assert found.predictions == found.labelled == 299
    assert (found.without_features, found.without_answer) == (1, 2)


def test_what_is_asked_wrongly_is_said(lake: Lake, log: PredictionLog, family: ModelFamily) -> None:
    lake.overwrite(LOG, make_log(10))
    lake.overwrite(OUTCOMES, make_outcomes(10))
    with pytest.raises(MonitoringError, match="no time zone"):
        counts(lake, log, family, datetime(2013, 4, 1))  # noqa: DTZ001 - what is tested
    with pytest.raises(MonitoringError, match="no column for flight_id"):
        counts(lake, PredictionLog("inference.late", {}), family, LATER)


def test_realised_and_estimated_stand_side_by_side_and_agree(
    lake: Lake, log: PredictionLog, family: ModelFamily
) -> None:
    lake.overwrite(LOG, make_log())
    lake.overwrite(OUTCOMES, make_outcomes())
    label, answers, days = labelled_part()
    estimator = fit_estimator(Binary(), label, answers, days, threshold=0.3)
    with lake.connect() as con:
        report = measure_performance(
            con, log, family, Binary(), LAST, as_of=LATER, windows=(1, 28), estimator=estimator
        )
    truth = make_outcomes()["late"].to_numpy(zero_copy_only=False)[-28 * PER_DAY :]
    given = probabilities(DAYS * PER_DAY)[-28 * PER_DAY :]
    realised = report.get(Kind.realised, "roc_auc", 28)
    assert realised is not None
    assert realised.value == pytest.approx(roc_auc_score(truth, given))
    for metric in ("roc_auc", "average_precision", "log_loss", "brier"):
        for window in (1, 28):
            expected = report.get(Kind.estimated, metric, window)
            found = report.get(Kind.realised, metric, window)
            assert expected is not None
            assert found is not None
            assert expected.low <= found.value <= expected.high
            assert found.low < found.value < found.high  # hours stand for days within one
    slices = {one.slice_value for one in report.performances if one.slice_column == "origin"}
    assert slices == {"EWR", "JFK"}
    assert report.versions == (3,)


def test_a_day_without_predictions_is_a_state(
    lake: Lake, log: PredictionLog, family: ModelFamily
) -> None:
    lake.overwrite(LOG, make_log(10))
    lake.overwrite(OUTCOMES, make_outcomes(10))
    label, answers, days = labelled_part()
    estimator = fit_estimator(Binary(), label, answers, days)
    with lake.connect() as con:
        report = measure_performance(
            con, log, family, Binary(), date(2014, 1, 1), as_of=LATER, estimator=estimator
        )
    assert set(report.labels.values()) == {LabelCounts()}
    assert all(one.found.value is None and one.found.reason for one in report.performances)


def test_soft_metrics_with_hard_labels_are_the_ordinary_ones() -> None:
    label, answers, _ = labelled_part()
    answers = np.round(answers, 2)  # with ties
    found = {k: v[0] for k, v in soft_metrics(answers, label[None], 0.4).items()}
    assert found["roc_auc"] == pytest.approx(roc_auc_score(label, answers))
    assert found["average_precision"] == pytest.approx(average_precision_score(label, answers))
    assert found["log_loss"] == pytest.approx(log_loss(label, answers), rel=1e-6)
    assert found["brier"] == pytest.approx(np.mean((label - answers) ** 2))
    assert found["f1"] == pytest.approx(f1_score(label, answers >= 0.4))
    assert found["accuracy"] + found["error_rate"] == pytest.approx(1)


def test_a_model_that_is_too_sure_is_calibrated_and_its_estimate_is_right() -> None:
    label, honest, days = labelled_part()
    sure = honest**2 / (honest**2 + (1 - honest) ** 2)
    calibration = fit_calibration(label, sure, days)
    assert calibration.method in {"platt", "isotonic"}
    assert np.abs(calibration(sure) - honest).mean() < 0.02
    assert fit_calibration(label, honest, days).method in {"none", "platt"}
    estimator = fit_estimator(Binary(), label, sure, days, threshold=0.5)
    again = PerformanceEstimator.from_json(estimator.to_json())
    fresh_label, fresh, fresh_days = labelled_part(seed=20)
    fresh = fresh**2 / (fresh**2 + (1 - fresh) ** 2)
    found = again.estimate(fresh, fresh_days)
    for metric, values in soft_metrics(fresh, fresh_label[None], 0.5).items():
        assert found[metric].low <= values[0] <= found[metric].high, metric


def test_labels_off_together_widen_the_estimate() -> None:
    label, answers, days = labelled_part()
    calm = fit_estimator(Binary(), label, answers, days)
    shift = np.random.default_rng(4).normal(scale=1.0, size=30)[days]
    odds = np.log(answers / (1 - answers)) + shift
    stormy_label = (np.random.default_rng(5).random(6000) < 1 / (1 + np.exp(-odds))).astype(float)
    stormy = fit_estimator(Binary(), stormy_label, answers, days)
    assert stormy.day_variance["log_loss"] > 5 * calm.day_variance["log_loss"]
    today = days == 0
    wide, narrow = (one.estimate(answers[today], days[today])["log_loss"] for one in (stormy, calm))
    assert wide.high - wide.low > narrow.high - narrow.low


def test_what_cannot_be_estimated_is_said() -> None:
    label, answers, days = labelled_part()
    with pytest.raises(MonitoringError, match="regression task has no performance estimate"):
        fit_estimator(Regression((0.1, 0.5, 0.9)), label, answers, days)
    with pytest.raises(MonitoringError, match="too few to calibrate"):
        fit_estimator(Binary(), np.zeros(6000), answers, days)


def test_health_of_the_server(lake: Lake) -> None:
    rows = make_log(1000)
    lake.overwrite(LOG, rows)
    at = pa.array([FIRST, FIRST], pa.timestamp("us", "UTC"))
    events = {"kind": ["log_gap", "model_loaded"], "family": [None, "late"], "at": at}
    with lake.connect() as con:
        con.register("given", pa.table({**events, "rows": pa.array([7, None], pa.int64())}))
        con.execute("CREATE TABLE events AS FROM given")
        until = FIRST + timedelta(days=5)
        found = measure_service(con, "late", FIRST, until, events="events")
        nothing = measure_service(con, "late", until, until + DUE, events=None)
        with pytest.raises(MonitoringError, match="no time to look at"):
            measure_service(con, "late", until, FIRST)
    seconds = rows["seconds"].to_numpy()
    assert found.requests == found.predictions == 1000
    for quantile, value in found.latency.items():
        assert value == pytest.approx(np.quantile(seconds, quantile), rel=0.01)
    assert found.slowest == pytest.approx(0.1)
    assert (found.troubles, found.lost_predictions) == ({"log_gap": 1}, 7)
    assert found.per_second == pytest.approx(1000 / (5 * 86_400))
    assert (nothing.requests, nothing.latency, nothing.warned_share) == (0, {}, None)
