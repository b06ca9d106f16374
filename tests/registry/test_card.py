"""A model card is whole, says what the run recorded, and its pages need nothing else."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName
from mlops_assets.registry import ModelVersion, Registry, RegistryError
from mlops_assets.registry.card import (
    CardIncompleteError,
    ModelCard,
    attach_card,
    build_card,
    judged,
    read_card,
    require_complete,
    summarise_search,
    write_card,
)
from mlops_assets.registry.card.content import FeatureLine, Measured
from mlops_assets.registry.card.layout import interval, number, sections
from mlops_assets.registry.gate import Condition, Decision
from mlops_assets.registry.ledger import Event, LedgerEntry
from mlops_assets.training import ModelFamily
from mlops_assets.training.bootstrap import Estimate, PairedDifference, Resampling
from mlops_assets.training.candidate import Candidate, train_baseline, train_candidate
from mlops_assets.training.dataset import Part, load_parts
from mlops_assets.training.evaluation import evaluate
from mlops_assets.training.explaining import Effort, explain_model, features_by_view
from mlops_assets.training.family import CandidateDeclaration
from mlops_assets.training.family_search import FloatRange, IntRange, SearchDeclaration
from mlops_assets.training.training_set import (
    TrainingSet,
    build_training_set,
    select_features,
)
from mlops_assets.training.tuning import SearchResult, TrialRecord, TrialState
from tests.registry.conftest import PROVENANCE, make_lake, make_registry

EFFORT = Effort(
    shap_rows=200,
    kept_rows=30,
    permutation_rows=300,
    permutation_repeats=2,
    dependence_rows=40,
    dependence_points=5,
)
RESAMPLING = Resampling(draws=200, seed=5)


@dataclass(frozen=True)
class Made:
    """A registered version with all that its card is made of."""

    registry: Registry
    version: ModelVersion
    given: Mapping[str, Any]

    def card(self, **changes: Any) -> ModelCard:
        return build_card(self.registry, self.version, **{**self.given, **changes})


@dataclass(frozen=True)
class World:
    """A trained candidate in a registry that knows no version of it yet."""

    registry: Registry
    family: ModelFamily
    candidate: Candidate
    parts: Mapping[str, Part]
    given: Mapping[str, Any]

    def register(self, candidate: Candidate | None = None, **changes: Any) -> Made:
        """Log the candidate in a run of its own, and make it a version."""
        training_set: TrainingSet = self.given["training_set"]
        family = self.family.model_copy(update=changes)
        logged = self.registry.log_candidate(
            candidate or self.candidate,
            family,
            self.parts["test"],
            training_set.inputs,
            PROVENANCE,
        )
        return Made(self.registry, self.registry.register(logged, family), self.given)


def make_world(
    home: Path, lake: Lake, family: ModelFamily, name: str, views: FeatureRegistry, store: Path
) -> World:
    training_set = build_training_set(lake, family, views)
    parts = load_parts(lake, training_set.version, family)
    (declared,) = (one for one in family.candidates if one.name == name)
    candidate = train_candidate(family, declared, parts, training_set.version, seed=5, threads=1)
    selections = select_features(family, views)
    test = parts["test"]
    answers = train_baseline(family, parts).predict(test.features)
    explanation = explain_model(
        candidate.estimator,
        test,
        family,
        candidate.test,
        views=features_by_view(selections),
        effort=EFFORT,
    )
    given = {
        "estimator": candidate.estimator,
        "training_set": training_set,
        "selections": selections,
        "validation": candidate.validation,
        "test": candidate.test,
        "baseline": evaluate(test, answers, family, RESAMPLING),
        "explanation": explanation,
        "sources": {TableName("features", "delays"): ("raw/flights", "raw/weather")},
    }
    return World(make_registry(home, lake, store), family, candidate, parts, given)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    empty_store: Path,
    family: ModelFamily,
    views: FeatureRegistry,
) -> World:
    home = tmp_path_factory.mktemp("card")
    return make_world(home, make_lake(home), family, "catboost", views, empty_store)


@pytest.fixture
def made(world: World) -> Made:
    return world.register()


@pytest.fixture(scope="module")
def card(world: World) -> ModelCard:
    """A card for tests of what becomes of one; it is a value, so one is enough for all of them."""
    return world.register().card()


def decision(card: ModelCard, *, met: bool = True) -> Decision:
    """Decide about a card's version; whether it is promoted depends on one condition."""
    comparison = PairedDifference(
        "roc_auc", 0.5, 0.8, 0.3, 0.25, 0.35, False, 900, 46, RESAMPLING
    )  # fmt: skip
    return Decision(
        family=card.identity.family,
        challenger=card.identity.name,
        opponent="baseline",
        metric="roc_auc",
        minimum_gain=0.0,
        comparison=comparison,
        slices=(),
        latency=None,
        conditions=(
            Condition("gain", True, "gain +0.3000"),
            Condition("latency", met, "95 of 100 take up to 12 ms; at most 10 ms"),
        ),
        rows=900,
        first_day=date(2013, 2, 15),
        last_day=date(2013, 4, 1),
        resampling=RESAMPLING,
    )


# From the run to the files


def test_a_card_survives_being_kept_and_renders_the_same_again(made: Made):
    card = made.card()
    attach_card(made.registry, card)
    again = read_card(made.registry, made.version)
    assert again == card
    assert again.to_html() == card.to_html()
    assert again.to_markdown() == card.to_markdown()
    kept = made.registry.client.list_artifacts(made.version.run_id, "card")
    assert sorted(Path(found.path).name for found in kept) == [
        "model_card.html", "model_card.json", "model_card.md",
    ]  # fmt: skip
    later = judged(again, decision(card))
    attach_card(made.registry, later)
    assert read_card(made.registry, made.version) == later


def test_a_version_without_a_card_says_how_to_get_one(made: Made):
    with pytest.raises(RegistryError, match=rf"{made.version} has no model card .* materialise"):
        read_card(made.registry, made.version)


def test_a_card_of_another_platform_version_is_refused(made: Made, tmp_path: Path):
    path = tmp_path / "model_card.json"
    path.write_text('{"made_at": "2013-01-01T00:00:00Z", "surprise": 1}', encoding="utf-8")
    made.registry.attach(made.version.run_id, path, "card")
    with pytest.raises(RegistryError, match="written by another version"):
        read_card(made.registry, made.version)


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ({"validation": None}, "on validation: provided by evaluate on validation"),
        ({"test": None}, "on test: provided by evaluate on test"),
        ({"explanation": None}, "explanations and fairness: provided by explain_model on test"),
        ({"selections": ()}, "features: provided by the selected feature views"),
    ],
)
def test_what_is_not_given_is_named_with_what_provides_it(
    made: Made, absent: dict[str, Any], message: str
):
    with pytest.raises(CardIncompleteError, match=rf"{made.version} would be .*\n.*{message}"):
        made.card(**absent)


def test_everything_that_is_missing_is_said_at_once(made: Made):
    with pytest.raises(CardIncompleteError) as error:
        made.card(validation=None, test=None, explanation=None)
    assert str(error.value).count("provided by") == 3


def test_a_declared_search_must_be_told_of(world: World):
    search = SearchDeclaration(space={"depth": IntRange(kind="int", low=2, high=4)})
    searched = CandidateDeclaration(algorithm="catboost", search=search)
    candidate = replace(world.candidate, declaration=searched)
    made = world.register(candidate, candidates=(searched,))
    with pytest.raises(CardIncompleteError, match="search: provided by the search of catboost"):
        made.card()
    found = made.card(search=search_result())
    assert found.search is not None
    assert "| `depth` | 2 to 4 | `3` |" in found.to_markdown()
    assert "No search was declared" not in found.to_markdown()


def search_result() -> SearchResult:
    def trial(number: int, state: TrialState, value: float | None) -> TrialRecord:
        return TrialRecord(
            number=number, state=state, value=value, parameters={"depth": 3}, declared=not number,
            seconds=1.0, iterations=30, loss=value, reason="", started_at=datetime.now(UTC),
        )  # fmt: skip

    trials = (trial(0, TrialState.COMPLETE, 0.41), trial(1, TrialState.PRUNED, None))
    return SearchResult(
        study="late_flights/catboost", family="late_flights", candidate="catboost",
        metric="log_loss", metric_title="Log loss", greater_is_better=False, metric_is_loss=True,
        space={
            "depth": IntRange(kind="int", low=2, high=4),
            "learning_rate": FloatRange(kind="float", low=0.01, high=0.3, log=True),
        },
        trials=trials, resumed=0, best=trials[0],
        best_parameters={"depth": 3, "learning_rate": 0.05, "iterations": 40},
        importance={}, ended_by="trials", seconds=2.0, seed=1, threads=1, workers=1,
        train_rows=100, validation_rows=50,
    )  # fmt: skip


def test_a_search_is_summed_up():
    found = summarise_search(search_result())
    assert (found.metric, found.trials, found.best_value) == ("Log loss", 2, 0.41)
    assert {state.name: state.value for state in found.states} == {"complete": "1", "pruned": "1"}
    space = {one.name: one.value for one in found.space}
    assert space["learning_rate"] == "0.01 to 0.3, by orders of magnitude"


# What it says


def shown(name: str) -> str:
    """Return a name as Markdown has it."""
    return name.replace("_", "\\_")


def test_it_says_what_the_run_recorded(card: ModelCard, world: World):
    markdown, name, lake = card.to_markdown(), card.identity.name, world.registry.lake
    test = world.given["test"]
    for expected in (
        f"# {shown(name)}",
        "Recent delays are known an hour ahead.",
        "Made-up flights.",
        "`abc123`",
        "0" * 64,
        "No search was declared",
        "Waiting for the gate",
        f"mlops models reproduce {name}",
        "mlops models rollback late_flights",
        f'.load("{name}")',
        "raw/flights",
        f"{test.value('roc_auc'):.3f}",
        f"{test.decision.threshold:.4f}",
        "| `recent_delay` | number | `delays` | The recent\\_delay. |",
        "30 days. A champion trained longer ago is stale",
    ):
        assert expected in markdown, expected
    rows = {one.table: one.rows for one in card.data.inputs}
    assert rows["features/flights"] == lake.describe(TableName("features", "flights")).rows
    assert sum(part.rows for part in card.data.parts) + card.data.purged == card.data.rows
    assert card.primary.test == Measured.of(test.metrics["roc_auc"])
    assert card.primary.baseline is not None


def test_every_section_says_something(card: ModelCard):
    for section in sections(card):
        assert section.blocks, section.key


def test_the_decision_and_the_history_are_added_later(card: ModelCard):
    name, this = card.identity.family, card.identity.version
    at = datetime(2013, 5, 1, tzinfo=UTC)
    history = (
        LedgerEntry(name, Event.promoted, "me", "better", None, this, challenger=this, at=at),
        LedgerEntry(name, Event.refused, "me", "other", this, this, challenger=77, at=at),
        LedgerEntry(name, Event.refused, "me", "unrelated", 78, 78, challenger=79, at=at),
        LedgerEntry("another", Event.promoted, "me", "family", None, this, challenger=this, at=at),
    )
    found = judged(card, decision(card), history)
    assert found.status == "passed the gate"
    assert [line.reason for line in found.gate.history] == ["better", "other"]
    assert found.gate.history[0].change == f"nobody → {card.identity.name}"
    assert card.gate.decision is None  # a card is a value
    assert judged(found, decision(card)).gate.history == ()
    html, markdown = found.to_html(), found.to_markdown()
    assert "Waiting for the gate" not in html + markdown
    assert "0.300" in markdown
    assert "(0.250 to 0.350)" in markdown
    refused = judged(card, decision(card, met=False))
    assert refused.status == "refused by the gate"
    assert "✗ no" in refused.to_html()
    assert (
        f"> **Refused.** {shown(card.identity.name)} does not replace baseline"
        in refused.to_markdown()
    )


def test_a_decision_about_another_version_is_refused(card: ModelCard):
    other = replace(decision(card), challenger="late_flights/77")
    with pytest.raises(
        CardIncompleteError, match=f"about late_flights/77; judge {card.identity.name}"
    ):
        judged(card, other)


@pytest.mark.parametrize(
    ("emptied", "section"),
    [
        ({"assumptions": ()}, "assumptions"),
        ({"limitations": ()}, "limitations"),
        ({"metrics": ()}, "metrics"),
        ({"schedule": ()}, "schedule"),
        ({"features": ()}, "features"),
        ({"lineage": ()}, "lineage"),
    ],
)
def test_an_empty_section_is_refused_by_name(
    card: ModelCard, emptied: dict[str, Any], section: str
):
    with pytest.raises(CardIncompleteError, match=rf"Missing:\n  {section}: provided by"):
        require_complete(card.model_copy(update=emptied))


def test_a_feature_without_a_description_is_named(card: ModelCard):
    view = card.features[0]
    bare = FeatureLine(name="mystery", kind="number", description=" ")
    changed = view.model_copy(update={"features": (*view.features, bare)})
    with pytest.raises(CardIncompleteError, match="a description in dbt of mystery"):
        require_complete(card.model_copy(update={"features": (changed,)}))


@pytest.mark.parametrize(
    ("task", "column", "says"),
    [
        ("regression", "minutes", "No threshold: the answer is used as it is."),
        ("multiclass", "outcome", "the probability of each of the classes early, late, on time"),
    ],
)
def test_a_card_of_another_task_is_as_whole(
    task: str,
    column: str,
    says: str,
    tmp_path: Path,
    empty_store: Path,
    declare: Callable[..., ModelFamily],
    views: FeatureRegistry,
):
    lake, flights = make_lake(tmp_path), TableName("features", "flights")
    rows = lake.read(flights).read_all()
    random = np.random.default_rng(3)
    minutes = 20 * rows["late"].to_numpy(zero_copy_only=False) + random.normal(0, 9, len(rows))
    outcome = np.where(minutes < 0, "early", np.where(minutes < 15, "on time", "late"))
    labelled = rows.append_column("minutes", pa.array(minutes))
    labelled = labelled.append_column("outcome", pa.array(outcome.tolist()))
    lake.overwrite(flights, labelled, allow_schema_change=True)
    label = {"table": "features/flights", "column": column, "available_at": "known_at"}
    family = declare(task=task, label=label, candidates=[{"algorithm": "linear"}])
    world = make_world(tmp_path, lake, family, "linear", views, empty_store)
    found = world.register().card()
    assert ModelCard.model_validate_json(found.model_dump_json()) == found
    assert found.threshold.value is None
    markdown = found.to_markdown()
    assert says in markdown
    assert found.identity.task == task
    assert found.primary.title in found.to_html()
    _check_tables(markdown)


# What it looks like


class _Page(HTMLParser):
    """Collects what a page refers to and its anchors, and checks that its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.anchors: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.references += [given[k] or "" for k in ("src", "href") if k in given and tag != "use"]
        if tag == "section":
            self.anchors.add(f"#{given['id']}")
        if tag not in {"meta", "path", "use", "rect", "br", "image"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_page_is_whole_and_offline(card: ModelCard, tmp_path: Path):
    paths = write_card(card, tmp_path / "cards")
    assert sorted(path.name for path in (tmp_path / "cards").iterdir()) == sorted(
        path.name for path in paths
    )
    html = paths[0].read_text(encoding="utf-8")
    assert len(html) < 2_000_000
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert set(page.references) == page.anchors == {f"#{one.key}" for one in sections(card)}
    assert not re.search(r"url\(\s*['\"]?https?:|@import|<script", html)
    assert "#0b0b0b" not in html  # every colour is the page's, for light and dark


def test_hostile_text_is_escaped_everywhere(card: ModelCard):
    evil = "<script>alert(1)</script> | a\n# b"
    hostile = card.model_copy(
        update={
            "identity": card.identity.model_copy(update={"description": evil, "owners": (evil,)}),
            "limitations": (evil,),
        }
    )
    assert "<script" not in hostile.to_html()
    markdown = hostile.to_markdown()
    assert not re.search(r"(?<!\\)<script", markdown)
    assert not re.search(r"^# b", markdown, re.MULTILINE)
    _check_tables(markdown)


def test_markdown_tables_are_valid(card: ModelCard):
    refused = judged(card, decision(card, met=False))
    assert _check_tables(refused.to_markdown()) >= 15


def _check_tables(markdown: str) -> int:
    """Count the tables, each with a rule and the same number of cells in every row."""
    tables = re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE)
    for table in tables:
        rows = table.splitlines()
        widths = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
        assert len(widths) == 1, table
        assert re.fullmatch(r"\|( ---:? \|)+", rows[1]), rows[1]
    return len(tables)


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.79623, 0.77499, 0.81425, ("0.796", "0.775 to 0.814")),
        (0.00121, 0.00042, 0.002, ("0.0012", "0.0004 to 0.0020")),
        (12.345, 11.0, 14.0, ("12.35", "11.00 to 14.00")),
        (-0.00001, -0.0021, 0.0008, ("0.0000", "-0.0021 to 0.0008")),
        (1234.5, None, None, ("1,234", "")),
    ],
)
def test_numbers_have_the_digits_their_size_calls_for(
    value: float, low: float | None, high: float | None, expected: tuple[str, str]
):
    found = Measured.of(Estimate(value, low, high))
    assert (number(found), interval(found)) == expected
