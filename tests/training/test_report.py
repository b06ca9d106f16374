"""The report is one file, needs no network, shows every number, and escapes what it is given."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.training import ModelFamily, pictures
from mlops_assets.training.bootstrap import Estimate, Resampling
from mlops_assets.training.candidate import train_baseline
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import FitOptions, estimator_class
from mlops_assets.training.evaluation import choose_threshold, evaluate
from mlops_assets.training.explaining import Effort, explain_model
from mlops_assets.training.number_text import number_text
from mlops_assets.training.report import (
    Comparison,
    Entrant,
    pictures_as_markdown,
    render_report,
    write_report,
)
from mlops_assets.training.training_set import TrainingSet

EFFORT = Effort(
    shap_rows=200, kept_rows=100, permutation_rows=200, permutation_repeats=2, permuted_features=3,
    dependence_features=2, dependence_rows=50, dependence_points=5,
)  # fmt: skip


def compare(family: ModelFamily, parts: dict[str, Part], training_set: TrainingSet) -> Comparison:
    entrants, models = [], {}
    resampling = Resampling(draws=200)
    for declared in family.candidates:
        model = estimator_class(declared.algorithm).fit(
            parts["train"], parts["validation"], declared.parameters, FitOptions(1, 2)
        )
        answers = {name: model.predict(parts[name].features) for name in ("validation", "test")}
        threshold = choose_threshold(parts["validation"], answers["validation"], family.threshold)
        evaluations = {
            name: evaluate(parts[name], answers[name], family, resampling, threshold)
            for name in answers
        }
        entrants.append(Entrant.of(declared.name, declared.algorithm, model, evaluations))
        models[declared.name] = model
    test = parts["test"]
    answers_of_baseline = train_baseline(family, parts).predict(test.features)
    return Comparison(
        family=family,
        training_set=training_set,
        entrants=tuple(entrants),
        chosen="catboost",
        baseline=evaluate(test, answers_of_baseline, family, resampling),
        facts={"git commit": "abc123"},
        explanation=explain_model(
            models["catboost"],
            test,
            family,
            next(one.test for one in entrants if one.name == "catboost"),
            effort=EFFORT,
        ),
    )


@pytest.fixture(scope="module")
def comparison(
    family: ModelFamily, parts: dict[str, Part], training_set: TrainingSet
) -> Comparison:
    return compare(family, parts, training_set)


@pytest.fixture(scope="module")
def comparisons(
    families: dict[str, ModelFamily],
    parts_of: dict[str, dict[str, Part]],
    training_sets: dict[str, TrainingSet],
) -> dict[str, Comparison]:
    return {
        task: compare(families[task], parts_of[task], training_sets[task])
        for task in ("multiclass", "regression")
    }


class _Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [v or "" for k, v in attrs if k in {"src", "href"} and tag != "use"]
        if tag not in {"meta", "path", "use", "rect", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_small_and_offline(comparison: Comparison, tmp_path: Path):
    path = write_report(comparison, tmp_path / "reports" / "late.html")
    assert path.stat().st_size < 3_000_000
    assert [p.name for p in path.parent.iterdir()] == ["late.html"]
    html = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert page.references == []
    assert not re.search(r"url\(\s*['\"]?https?:|@import|<script", html)


def test_the_page_shows_numbers_versions_slices_and_plots(comparison: Comparison):
    html = render_report(comparison)
    for entrant in comparison.entrants:
        assert f"{entrant.test.value('roc_auc'):.3f}" in html
        assert f"{entrant.test.metrics['brier'].low:.3f}" in html
    for expected in ("training/late_flights@0", "features/delays", "abc123", "Made-up flights."):
        assert expected in html
    # Plots with a learning curve, slices, explanation, and fairness by slice.
    assert html.count("<svg") == 6 + 3 + 4 + 3
    assert "carrier = B6" in html
    assert "<code>constant</code> always 1.0 in training" in html
    assert "var(--series-1)" in html
    assert "#050505" not in html


def test_the_page_explains_the_chosen_one_and_compares_groups(comparison: Comparison):
    html = render_report(comparison)
    found = comparison.explanation
    assert found is not None
    for expected in ("Row by row", "Features shuffled", "Partial dependence", "Largest gap"):
        assert expected in html
    for one in found.attribution.importance:
        assert f"<code>{one.feature}</code>" in html
    assert number_text(found.permuted[0].loss.value) in html
    for figure in found.fairness.figures:
        assert figure.title in html
    for group in {one.group for one in found.fairness.groups}:
        assert f"= {group}" in html
    assert "explanations/" in html


def test_a_page_without_an_explanation_says_where_it_comes_from(comparison: Comparison):
    html = render_report(replace(comparison, explanation=None))
    assert "<code>late_flights/explanation</code>" in html
    assert "Row by row" not in html
    assert 'id="fairness"' not in html


def test_hostile_names_are_escaped(comparison: Comparison):
    evil = "<script>alert(1)</script>"
    slices = tuple(replace(s, value=evil) for s in comparison.best.test.slices[:1])
    entrants = tuple(replace(e, test=replace(e.test, slices=slices)) for e in comparison.entrants)
    hostile = replace(comparison, entrants=entrants, facts={"git commit": evil})
    assert "<script" not in render_report(hostile)


def test_what_cannot_be_computed_is_shown_as_such(comparison: Comparison, parts: dict[str, Part]):
    test = parts["test"]
    flat = evaluate(test, np.full(len(test), 0.2), comparison.family, Resampling(draws=200))
    html = render_report(replace(comparison, baseline=flat))
    assert "not computable" in html
    assert "every answer is 0.2" in html


def test_pictures_are_small_pngs_inside_markdown(comparison: Comparison):
    found = pictures_as_markdown(comparison)
    assert set(found) == {"roc", "precision_recall", "calibration"}
    for name, text in found.items():
        head, data = text.split("base64,")
        assert head == f"![{name}](data:image/png;"
        image = base64.b64decode(data.removesuffix(")"))
        assert image.startswith(b"\x89PNG")
        assert len(image) < 40_000


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_the_page_of_every_task_is_whole_and_shows_its_numbers(
    task: str, comparisons: dict[str, Comparison]
):
    comparison = comparisons[task]
    html = render_report(comparison)
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert page.references == []
    assert len(html) < 1_500_000
    text = " ".join(page.text)
    for entrant in comparison.entrants:
        for metric in entrant.test.task.metrics.values():
            assert metric.title in text
        loss = entrant.test.value(entrant.test.task.loss)
        assert f"{loss:.3f}" in text
    assert comparison.explanation.of in text
    assert "threshold" not in text.lower()
    drawn = {"multiclass": 6, "regression": 8}[task]
    assert html.count("<svg") == drawn + 3 + 4 + 3
    assert "#050505" not in html


def test_the_page_of_classes_has_a_line_for_each_and_says_which_is_never_predicted(
    comparisons: dict[str, Comparison],
):
    comparison = comparisons["multiclass"]
    html = render_report(comparison)
    for name in ("early", "late", "on time"):
        assert f"<tr><th>{name}</th>" in html
    best = comparison.best
    confusion = best.test.curves.confusion.copy()
    confusion[:, 0] = 0
    curves = replace(best.test.curves, confusion=confusion)
    never = replace(best, test=replace(best.test, curves=curves))
    entrants = tuple(never if e is best else e for e in comparison.entrants)
    assert "never predicted" in render_report(replace(comparison, entrants=entrants))


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("multiclass", {"confusion", "roc", "calibration"}),
        ("regression", {"predicted_observed", "quantiles", "calibration"}),
    ],
)
def test_every_task_has_its_small_pictures(
    task: str, names: set[str], comparisons: dict[str, Comparison]
):
    found = pictures_as_markdown(comparisons[task])
    assert set(found) == names
    for text in found.values():
        assert len(base64.b64decode(text.split("base64,")[1].removesuffix(")"))) < 60_000


def test_a_picture_of_another_task_is_refused(comparisons: dict[str, Comparison]):
    mixed = {
        "numbers": comparisons["regression"].best.test,
        "classes": comparisons["multiclass"].best.test,
    }
    with pytest.raises(TypeError, match="classes was evaluated as multiclass"):
        pictures.plots(mixed, "numbers")


def test_large_numbers_are_shown_without_needless_digits(comparisons: dict[str, Comparison]):
    comparison = comparisons["regression"]
    best = comparison.best
    large = replace(
        best.test,
        metrics={**best.test.metrics, "mae": Estimate(123456.789, 120000.4, 130000.6)},
    )
    entrants = tuple(replace(e, test=large) if e is best else e for e in comparison.entrants)
    html = render_report(replace(comparison, entrants=entrants))
    assert "123,457" in html
    assert "120,000 to 130,001" in html
