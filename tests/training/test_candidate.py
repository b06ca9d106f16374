"""A candidate is trained on one part, tuned on the next and measured on the last."""

from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.lake import TableVersion
from mlops_assets.training import ModelFamily
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.candidate import Candidate, TrainingError, train_candidate
from mlops_assets.training.dataset import DatasetError, Part
from mlops_assets.training.evaluation import choose_challenger, choose_threshold, evaluate
from mlops_assets.training.family import ThresholdDeclaration
from mlops_assets.training.metrics import MetricError

VERSION = TableVersion.parse("training/late_flights@0")


@pytest.fixture(scope="module")
def candidates(family: ModelFamily, parts: dict[str, Part]) -> dict[str, Candidate]:
    return {
        declared.name: train_candidate(family, declared, parts, VERSION, seed=3, threads=2)
        for declared in family.candidates
    }


def test_it_ranks_far_better_than_chance_and_says_from_what_it_learnt(
    candidates: dict[str, Candidate], parts: dict[str, Part]
):
    for candidate in candidates.values():
        assert candidate.test.metrics["roc_auc"].low > 0.7
        assert candidate.learnt.train_rows == len(parts["train"])
        assert str(candidate.learnt.first_day) == "2013-01-01"
        assert str(candidate.learnt.last_day) == "2013-03-19"
        assert candidate.learnt.seed == 3


def test_the_challenger_is_chosen_on_validation_alone(
    family: ModelFamily, candidates: dict[str, Candidate]
):
    on_validation = {name: c.validation for name, c in candidates.items()}
    best = max(on_validation, key=lambda name: on_validation[name].value("roc_auc"))
    assert choose_challenger(family, on_validation) == best
    with pytest.raises(MetricError, match="test chooses nothing"):
        choose_challenger(family, {name: c.test for name, c in candidates.items()})
    with pytest.raises(MetricError, match="no candidate"):
        choose_challenger(family, {})


def test_the_challenger_of_a_loss_is_the_lowest(
    family: ModelFamily, candidates: dict[str, Candidate], parts: dict[str, Part]
):
    by_loss = family.model_copy(update={"primary_metric": "log_loss"})
    part = parts["validation"]
    evaluations = {
        name: evaluate(part, answers, by_loss, Resampling(draws=200))
        for name, answers in (
            ("catboost", candidates["catboost"].validation.answers),
            ("linear", np.full(len(part), 0.5)),
        )
    }
    assert choose_challenger(by_loss, evaluations) == "catboost"


def test_a_metric_that_cannot_be_computed_chooses_nobody(
    family: ModelFamily, parts: dict[str, Part]
):
    part = parts["validation"]
    one_class = replace(part, label=np.zeros(len(part)))
    found = evaluate(one_class, np.full(len(part), 0.2), family, Resampling(draws=200))
    with pytest.raises(MetricError, match="roc_auc on validation cannot be computed"):
        choose_challenger(family, {"linear": found})
    assert "validation_roc_auc" not in found.numbers()


def test_the_threshold_maximises_f1_on_validation_and_never_sees_test(parts: dict[str, Part]):
    from sklearn.metrics import f1_score

    part, rule = parts["validation"], ThresholdDeclaration()
    answers = np.round(np.clip(0.3 + 0.2 * part.features["wind"].to_numpy(), 0, 1), 2)
    chosen = choose_threshold(part, answers, rule)
    scores = {t: f1_score(part.label, answers >= t) for t in np.unique(answers)}
    assert scores[chosen] == pytest.approx(max(scores.values()))
    assert choose_threshold(part, answers, ThresholdDeclaration(rule="fixed", value=0.4)) == 0.4
    with pytest.raises(MetricError, match="chosen on validation"):
        choose_threshold(parts["test"], answers, rule)


def test_slices_say_how_many_they_are_and_small_ones_that_they_are_small(
    candidates: dict[str, Candidate], parts: dict[str, Part]
):
    test = candidates["catboost"].test
    for column in ("carrier", "origin", "month"):
        assert sum(s.rows for s in test.slices if s.column == column) == test.rows
    april = next(s for s in test.slices if (s.column, s.value) == ("month", "4"))
    assert april.rows == int((parts["test"].context["month"] == 4).sum())
    assert april.metrics["roc_auc"].low < april.metrics["roc_auc"].high
    missing = next(s for s in test.slices if s.value == "(missing)")
    assert missing.small
    assert not april.small


def test_a_slice_that_is_no_column_is_refused(family: ModelFamily, parts: dict[str, Part]):
    part = parts["test"]
    wrong = family.model_copy(update={"slices": ("airline",)})
    with pytest.raises(DatasetError, match="'airline' is no column of the training set; it has"):
        evaluate(part, np.full(len(part), 0.2), wrong, Resampling(draws=200))


def test_curves_agree_with_the_numbers(candidates: dict[str, Candidate]):
    for candidate in candidates.values():
        found, curves = candidate.test, candidate.test.curves
        positives = round(found.label["yes"] * found.rows)
        area = np.trapezoid(curves.true_positive_rate, curves.false_positive_rate)
        assert area == pytest.approx(found.value("roc_auc"), abs=2e-3)
        assert curves.bin_rows.sum() == found.rows
        assert curves.positives.sum() == positives
        assert curves.hour_rows.sum() == found.rows
        assert curves.hour_observed @ curves.hour_rows == pytest.approx(positives)


def test_a_label_that_leaks_stops_the_run_and_names_the_feature(
    family: ModelFamily, parts: dict[str, Part]
):
    leaking = {
        name: replace(part, features=part.features.assign(wind=part.label.astype(np.float32)))
        for name, part in parts.items()
    }
    with pytest.raises(TrainingError, match=r"too good to be true.*weigh most are wind"):
        train_candidate(family, family.candidates[0], leaking, VERSION, seed=3, threads=2)
