"""What a caller gets from the server, in every form and for every kind of model."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from httpx2 import Response
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from mlops_assets.serving.decoding import ARROW, JSON
from mlops_assets.serving.deployment import read_deployment
from mlops_assets.serving.inference_log.contents import Contents, read_contents
from mlops_assets.serving.inference_log.segments import finished_segments
from mlops_assets.serving.metrics import FOLDER_VARIABLE
from mlops_assets.serving.security import Scope, TokenStore
from mlops_assets.settings import Settings, load_settings
from tests.serving.asking import arrow, fields, in_every_form, problems, table_of
from tests.serving.conftest import client_of, deployment_in
from tests.serving.world import FILLED_AS_OF, World

FAMILIES = ["late_flights", "outcomes", "minutes_late"]
FORMS = ["rows", "columns", "arrow"]
OUTPUTS = {"outcomes": ("early", "late", "on time"), "minutes_late": ("q10", "q50", "q90")}
# More than a model is asked as plain rows, so that both ways of asking it are used.
FEW, MANY = 20, 300


def ask(client: TestClient, family: str, body: Any, *, query: str = "", **headers: str) -> Response:
    return client.post(
        f"/models/{family}/predict{query}",
        content=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"content-type": JSON, **headers},
    )


def ask_rows(client: TestClient, family: str, rows: pa.Table, form: str = "rows") -> Response:
    content_type, body = in_every_form(rows)[form]
    answer = ask(client, family, body, **{"content-type": content_type})
    assert answer.status_code == 200, answer.text
    return answer


def columns_of(answer: Response, form: str) -> dict[str, list[Any]]:
    """Return an answer's predictions as columns, whatever its form."""
    if form == "arrow":
        assert answer.headers["content-type"] == ARROW
        return table_of(answer).to_pydict()
    predictions = answer.json()["predictions"]
    if form == "columns":
        return predictions
    return {name: [each[name] for each in predictions] for name in predictions[0]}


def numbers_of(family: str, columns: dict[str, list[Any]]) -> NDArray[np.float64]:
    """Return what an estimator would have answered."""
    if family == "late_flights":
        return np.array(columns["probability"])
    values = columns["probabilities" if family == "outcomes" else "quantiles"]
    return np.array([list(each.values()) for each in values])


def logged(settings: Settings) -> Contents:
    return read_contents(list(finished_segments(settings.serve_log_folder)))


# Predictions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, FEW, MANY])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_the_estimator_to_the_last_bit(
    shared_client: TestClient, world: World, family: str, form: str, count: int
) -> None:
    rows = world.features(family, count)
    columns = columns_of(ask_rows(shared_client, family, rows, form), form)
    expected = world.answers(f"{family}/1", rows)
    np.testing.assert_array_equal(numbers_of(family, columns), expected)


def test_a_binary_answer_says_yes_from_its_threshold_on(
    shared_client: TestClient, world: World
) -> None:
    threshold = read_deployment(world.folder).families["late_flights"].champion.threshold
    assert threshold is not None
    found = columns_of(
        ask_rows(shared_client, "late_flights", world.features("late_flights", MANY)), "rows"
    )
    assert found["yes"] == [share >= threshold for share in found["probability"]]
    assert set(found["yes"]) == {True, False}


def test_a_multiclass_answer_names_the_most_probable_class(
    shared_client: TestClient, world: World
) -> None:
    found = columns_of(
        ask_rows(shared_client, "outcomes", world.features("outcomes", MANY)), "rows"
    )
    assert all(tuple(each) == OUTPUTS["outcomes"] for each in found["probabilities"])
    assert found["class"] == [max(each, key=each.get) for each in found["probabilities"]]
    assert len(set(found["class"])) == 3


def test_a_regression_answer_has_an_interval_around_its_value(
    shared_client: TestClient, world: World
) -> None:
    found = columns_of(
        ask_rows(shared_client, "minutes_late", world.features("minutes_late", MANY)), "rows"
    )
    for value, quantiles in zip(found["value"], found["quantiles"], strict=True):
        low, middle, high = quantiles.values()
        assert low <= value == middle <= high


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_says_who_answered_and_each_prediction_has_an_id(
    shared_client: TestClient, world: World, form: str
) -> None:
    answer = ask_rows(shared_client, "outcomes", world.features("outcomes", 3), form)
    request_id = answer.headers["x-request-id"]
    assert columns_of(answer, form)["id"] == [f"{request_id}-{row}" for row in range(3)]
    if form == "arrow":
        said = {k.decode(): v.decode() for k, v in table_of(answer).schema.metadata.items()}
        assert said.pop("logged") == "true"
        assert said.pop("warnings") == "[]"
    else:
        said = answer.json()
        assert said.pop("logged") is True
        assert said.pop("warnings") == []
        said.pop("predictions")
    assert said == {"model": "outcomes/1", "role": "champion", "request_id": request_id}


def test_what_is_odd_is_said_with_the_answer(shared_client: TestClient, world: World) -> None:
    [row] = world.features("outcomes", 1).to_pylist()
    odd = {**row, "carrier": "ZZ", "wind": 1e6, "is_new": None}
    said = ask(shared_client, "outcomes", {"rows": [row, odd]}).json()
    assert said["warnings"] == [
        "is_new: 1 of 2 missing, never so in training",
        *(each for each in said["warnings"] if each.startswith("wind: 1 of 2 outside")),
        "carrier: 1 of 2 not seen in training",
    ]
    assert len(said["predictions"]) == 2


def test_null_is_answered_as_the_estimator_answers_it(
    shared_client: TestClient, world: World
) -> None:
    rows = world.features("outcomes", 2)
    nulls = pa.table(
        {name: pa.nulls(2, rows.schema.field(name).type) for name in rows.column_names}
    )
    for form in FORMS:
        found = numbers_of(
            "outcomes", columns_of(ask_rows(shared_client, "outcomes", nulls, form), form)
        )
        np.testing.assert_array_equal(found, world.answers("outcomes/1", nulls))


# Explanations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_an_explanation_adds_up_in_every_form(
    shared_client: TestClient, world: World, family: str
) -> None:
    rows = world.features(family, 5)
    found = {}
    for form, (content_type, body) in in_every_form(rows).items():
        answer = ask(
            shared_client, family, body, query="?explain=true", **{"content-type": content_type}
        )
        assert answer.status_code == 200, answer.text
        found[form] = answer
    names = rows.column_names

    one_by_one = [each["explanation"] for each in found["rows"].json()["predictions"]]
    by_rows = [
        {each["feature"]: each["contribution"] for each in its["contributions"]}
        for its in one_by_one
    ]
    together = found["columns"].json()["predictions"]["explanation"]
    table = table_of(found["arrow"])
    for row, (its, contributions) in enumerate(zip(one_by_one, by_rows, strict=True)):
        assert its["expected"] + sum(contributions.values()) == pytest.approx(
            its["score"], abs=1e-5
        )
        sizes = [abs(each["contribution"]) for each in its["contributions"]]
        assert sizes == sorted(sizes, reverse=True)
        for name in names:
            assert contributions[name] == together["contributions"][name][row]
            assert contributions[name] == table[f"contribution_{name}"][row].as_py()
        assert its["expected"] == together["expected"][row] == table["expected"][row].as_py()
        assert its["score"] == together["score"][row] == table["score"][row].as_py()
    assert together["of"] == one_by_one[0]["of"]


def test_an_explanation_repeats_what_was_asked(shared_client: TestClient, world: World) -> None:
    [row] = world.features("outcomes", 1).to_pylist()
    asked = {**row, "seats": None, "is_new": True, "carrier": "B6", "wind": 0.5}
    answer = ask(shared_client, "outcomes", {"rows": [asked]}, query="?explain=true").json()
    [prediction] = answer["predictions"]
    told = {each["feature"]: each["value"] for each in prediction["explanation"]["contributions"]}
    assert told.pop("recent_delay") == np.float32(asked.pop("recent_delay"))
    assert told == asked
    assert told["is_new"] is True


def test_without_being_asked_for_there_is_no_explanation(
    shared_client: TestClient, world: World
) -> None:
    row = {"rows": world.features("outcomes", 1).to_pylist()}
    for query in ("", "?explain=false"):
        [prediction] = ask(shared_client, "outcomes", row, query=query).json()["predictions"]
        assert "explanation" not in prediction
    refused = ask(shared_client, "outcomes", row, query="?explain=perhaps")
    assert fields(problems(refused)) == ["explain"]


def test_explanations_can_be_switched_off(world: World, settings: Settings) -> None:
    path = settings.home / "serving" / "deployment.json"
    deployed = json.loads(path.read_text())
    deployed["families"]["outcomes"]["declaration"]["serving"] = {"explain": False}
    path.write_text(json.dumps(deployed))
    row = {"rows": world.features("outcomes", 1).to_pylist()}
    with client_of(settings) as client:
        assert ask(client, "outcomes", row).status_code == 200
        refused = ask(client, "outcomes", row, query="?explain=true")
    assert refused.status_code == 422
    assert "switched off" in refused.json()["detail"]


# By key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filled", [True, False], ids=["store and lake", "lake alone"])
@pytest.mark.parametrize("family", ["late_flights", "outcomes"])
def test_a_key_is_answered_from_the_training_sets_own_values(
    world: World, tmp_path: Path, family: str, filled: bool
) -> None:
    given = {} if filled else {"online_store_url": str(tmp_path / "empty.db")}
    settings = deployment_in(tmp_path / "home", world, **given)
    table = world.rows(family, 600)  # to both sides of the moment that the store was filled for
    rows = table.take([0, 100, 299, 419, 420, 500, 599])
    keys = [{"flight_id": flight} for flight in rows["flight_id"].to_pylist()]
    with client_of(settings) as client:
        answer = ask(client, family, {"entities": keys})
        assert answer.status_code == 200, answer.text
    expected = world.answers(f"{family}/1", rows)
    np.testing.assert_array_equal(numbers_of(family, columns_of(answer, "rows")), expected)
    views = {"late_flights": ["delays"], "outcomes": ["delays", "planes"]}[family]
    for prediction, moment in zip(
        answer.json()["predictions"], rows["prediction_time"].to_pylist(), strict=True
    ):
        assert list(prediction["features"]) == views
        for told in prediction["features"].values():
            known = filled and moment <= FILLED_AS_OF
            assert told["from"] == ("online" if known else "offline")
            assert told["status"] == "fresh"
            assert told["table_version"] == 0
            assert told["available_at"] == moment.isoformat()
            assert told["age_seconds"] == 0


def test_a_key_at_another_moment_gets_what_was_known_then(
    shared_client: TestClient, world: World
) -> None:
    """A day before its flight nothing was known of a plane; three days after, it is too old."""
    [row] = world.rows("outcomes", 1).to_pylist()
    key = {"flight_id": row["flight_id"]}
    early = ask(
        shared_client, "outcomes", {"entities": [key], "as_of": "2013-01-01T00:00:00Z"}
    ).json()
    [prediction] = early["predictions"]
    assert prediction["features"]["planes"]["status"] != "fresh"
    late = ask(
        shared_client, "outcomes", {"entities": [key], "as_of": "2013-03-31T00:00:00+02:00"}
    ).json()
    [prediction] = late["predictions"]
    assert prediction["features"]["planes"]["status"] == "expired"
    assert any("planes" in each for each in late["warnings"])
    nulls = world.features("outcomes", 1).to_pylist()[0] | dict.fromkeys(
        ("seats", "is_new", "maker")
    )
    same = ask(shared_client, "outcomes", {"rows": [nulls]}).json()["predictions"][0]
    assert prediction["probabilities"] == same["probabilities"]


def test_an_entity_may_bring_its_own_spine_columns(shared_client: TestClient, world: World) -> None:
    [row] = world.rows("outcomes", 1).to_pylist()
    key = {
        "flight_id": row["flight_id"],
        "prediction_time": row["prediction_time"].isoformat(),
        "origin": "JFK",
    }
    answer = ask(shared_client, "outcomes", {"entities": [key]})
    assert answer.status_code == 200, answer.text
    expected = world.answers("outcomes/1", world.rows("outcomes", 1))
    np.testing.assert_array_equal(numbers_of("outcomes", columns_of(answer, "rows")), expected)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"flight_id": 10**12}, ("entities[0]", "unknown")),
        ({"flight_id": None}, ("entities[0]", "unknown")),
        ({"flight_id": "secret"}, ("entities[0].flight_id", "wrong value")),
        ({"flight_id": 1.5}, ("entities[0].flight_id", "wrong value")),
        ({"flight_id": True}, ("entities[0].flight_id", "wrong value")),
        ({"flight_id": -(2**63)}, ("entities[0]", "unknown")),
        ({}, ("entities[0].flight_id", "missing")),
        ({"origin": "JFK"}, ("entities[0].flight_id", "missing")),
        ({"flight_id": 3, "prediction_time": "secret"},
         ("entities[0].prediction_time", "wrong value")),
        ({"flight_id": 3, "prediction_time": "2013-07-01T12:00:00"},
         ("entities[0].prediction_time", "wrong value")),
        ({"flight_id": 3, "secret": 5}, ("entities[0].secret", "unknown")),
    ],
)  # fmt: skip
def test_a_key_that_is_none_is_refused(
    shared_client: TestClient, key: dict[str, Any], expected: tuple[str, str]
) -> None:
    refused = ask(shared_client, "outcomes", {"entities": [key]})
    assert [problem[:2] for problem in problems(refused)] == [expected]


@pytest.mark.parametrize(
    "as_of",
    [
        "0001-01-01T00:00:00+23:59",
        "0001-01-01T00:00:00Z",
        "1700-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "2013-07-01T12:00:00.123456789Z",
    ],
)
def test_any_moment_can_be_asked_for(shared_client: TestClient, as_of: str) -> None:
    asked = ask(shared_client, "outcomes", {"entities": [{"flight_id": 3}], "as_of": as_of})
    assert asked.status_code in {200, 422}, asked.text
    given = {"flight_id": 3, "prediction_time": as_of}
    asked = ask(shared_client, "outcomes", {"entities": [given]})
    assert asked.status_code in {200, 422}, asked.text


# Refusals ----------------------------------------------------------------------------------------


def test_refusals_are_problem_documents(shared_client: TestClient, world: World) -> None:
    [row] = world.features("outcomes", 1).to_pylist()
    assert problems(ask(shared_client, "outcomes", {"rows": [{**row, "wind": "x"}]})) == [
        ("rows[0].wind", "text", "a number within ±3.4e+38, or null")
    ]
    assert fields(problems(ask(shared_client, "outcomes", {"rows": [{**row, "seats": 1.5}]}))) == [
        "rows[0].seats"
    ]
    text = ask(shared_client, "outcomes", b"x", **{"content-type": "text/plain"})
    assert problems(text, 415) == []
    limit = 100_000
    many = arrow(pa.table({name: pa.nulls(limit + 1) for name in row}))
    assert problems(ask(shared_client, "outcomes", many, **{"content-type": ARROW}), 413) == []


def test_a_family_that_nobody_serves_is_not_found(shared_client: TestClient) -> None:
    for path, method in [("", "GET"), ("/card", "GET"), ("/predict", "POST")]:
        answer = shared_client.request(method, f"/models/secret{path}", json={"rows": []})
        assert problems(answer, 404) == []
        assert "late_flights, minutes_late, outcomes" in answer.json()["detail"]
        assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/models/outcomes/predict", 405),
        ("DELETE", "/models/outcomes", 405),
        ("POST", "/health", 405),
        ("GET", "/static/../worker.py", 404),
        ("GET", "/static/%2e%2e/worker.py", 404),
        ("GET", "/models/..%2f..%2ftokens.json/card", 404),
    ],
)
def test_other_paths_and_methods_are_refused_as_problems(
    shared_client: TestClient, method: str, path: str, status: int
) -> None:
    assert problems(shared_client.request(method, path), status) == []


# What the server says of itself ------------------------------------------------------------------


def test_health_and_readiness(shared_client: TestClient) -> None:
    assert shared_client.get("/health").json() == {"status": "ok"}
    ready = shared_client.get("/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "models": {family: f"{family}/1" for family in sorted(FAMILIES)},
        "inference_log": "ok",
    }


def test_with_nothing_deployed_it_is_healthy_and_not_ready(tmp_path: Path) -> None:
    with client_of(load_settings(home=tmp_path / "home")) as client:
        assert client.get("/health").status_code == 200
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["models"] == {}
        assert client.get("/models").json() == {"models": []}
        assert client.get("/openapi.json").json()["paths"]
        assert client.get("/").status_code == 200
        refused = ask(client, "outcomes", {"rows": []})
        assert "none yet" in refused.json()["detail"]


def test_the_list_of_models(shared_client: TestClient) -> None:
    listed = {each["name"]: each for each in shared_client.get("/models").json()["models"]}
    assert sorted(listed) == sorted(FAMILIES)
    late = listed["late_flights"]
    assert late["task"] == "binary"
    assert late["description"] == "Will the flight be late?"
    assert late["champion"]["name"] == "late_flights/1"
    assert late["challenger"]["name"] == "late_flights/2"
    assert listed["outcomes"]["challenger"] is None


def test_a_model_is_described_by_its_contract(shared_client: TestClient, world: World) -> None:
    about = shared_client.get("/models/outcomes").json()
    kinds = {each["name"]: each["kind"] for each in about["features"]}
    assert kinds == {
        "recent_delay": "number",
        "wind": "number",
        "carrier": "category",
        "seats": "integer",
        "is_new": "boolean",
        "maker": "category",
    }
    by_name = {each["name"]: each for each in about["features"]}
    assert by_name["seats"]["nullable"]
    assert not by_name["wind"]["nullable"]
    assert sorted(by_name["maker"]["categories"]) == ["AIRBUS", "BOEING"]
    assert by_name["wind"]["description"] == "The wind."
    assert about["entity"] == ["flight_id"]
    assert about["champion"]["training_set"] == "training/outcomes@0"
    assert about["champion"]["metrics"]["test_log_loss"] > 0
    assert ask(shared_client, "outcomes", {"rows": [about["example"]]}).status_code == 200


def test_the_model_card_is_given_where_there_is_one(settings: Settings) -> None:
    folder = settings.home / "serving" / "models" / "outcomes" / "1"
    with client_of(settings) as client:
        assert problems(client.get("/models/outcomes/card"), 404) == []
        (folder / "model_card.html").write_text("<h1>outcomes</h1>")
        card = client.get("/models/outcomes/card")
    assert card.text == "<h1>outcomes</h1>"
    assert card.headers["content-type"].startswith("text/html")
    assert "sandbox" in card.headers["content-security-policy"]


def test_the_page_may_run_its_own_script_and_nothing_else(shared_client: TestClient) -> None:
    page = shared_client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for linked in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
        assert shared_client.get(f"/{linked}").status_code == 200


def test_metrics_count_requests_rows_and_calls(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with client_of(settings) as client:
        ask_rows(client, "outcomes", world.features("outcomes", 3))
        ask(client, "outcomes", b"nonsense")
        client.get("/secret/path")
        text = client.get("/metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }
    route = ("route", "/models/{family}/predict")
    assert samples["mlops_requests_total", route, ("status", "200")] == 1
    assert samples["mlops_requests_total", route, ("status", "422")] == 1
    assert samples["mlops_requests_total", ("route", "other"), ("status", "404")] == 1
    assert samples["mlops_request_seconds_count", route] == 2
    family = ("family", "outcomes")
    assert samples["mlops_predictions_total", family, ("role", "champion"), ("version", "1")] == 3
    assert samples["mlops_model_call_rows_sum", family] == 3
    assert samples["mlops_model_call_seconds_count", family, ("version", "1")] == 1
    assert samples["mlops_serving", family, ("role", "champion"), ("version", "1")] == 1
    assert samples["mlops_requests_in_flight",] == 1  # this one
    assert samples["mlops_log_full",] == 0
    assert samples["mlops_worker_resident_bytes",] > 1e6
    assert samples["mlops_worker_cpu_seconds",] > 0
    assert "secret" not in text


# Callers and the log -----------------------------------------------------------------------------


def test_every_answer_is_in_the_log_with_what_the_model_saw(
    world: World, settings: Settings
) -> None:
    rows = world.features("outcomes", 3)
    [first] = world.rows("outcomes", 1).to_pylist()
    with client_of(settings) as client:
        given = ask_rows(client, "outcomes", rows)
        keyed = ask(client, "outcomes", {"entities": [{"flight_id": first["flight_id"]}]})
        ask(client, "outcomes", b"nonsense")
        ask(client, "outcomes", {"rows": [{**rows.to_pylist()[0], "seats": 1.5}]})
    contents = logged(settings)
    assert contents.damaged == {}
    table = pa.concat_tables(contents.families["outcomes"], promote_options="default")
    sent = columns_of(given, "rows")["id"] + columns_of(keyed, "rows")["id"]
    assert table["prediction_id"].to_pylist() == sent
    assert set(table["role"].to_pylist()) == {"champion"}
    assert table["source"].to_pylist() == ["request"] * 3 + ["online"]
    assert table["seats"].to_pylist() == [*rows["seats"].to_pylist(), first["seats"]]
    assert table["carrier"].to_pylist() == [*rows["carrier"].to_pylist(), first["carrier"]]
    assert table["flight_id"].to_pylist() == [None] * 3 + [first["flight_id"]]
    assert table["scheduled"].to_pylist()[3] == first["scheduled"]
    expected = world.answers("outcomes/1", rows)
    for place, name in enumerate(OUTPUTS["outcomes"]):
        np.testing.assert_array_equal(table[f"answer_{name}"].to_numpy()[:3], expected[:, place])


@pytest.mark.parametrize(
    ("scopes", "query", "status"),
    [
        ([Scope.predict], "", 200),
        ([Scope.predict], "?explain=true", 403),
        ([Scope.predict, Scope.explain], "?explain=true", 200),
        ([Scope.explain], "", 403),
        ([], "", 401),
    ],
)
def test_a_token_is_for_what_it_was_made_for(
    world: World, settings: Settings, scopes: Sequence[Scope], query: str, status: int
) -> None:
    store = TokenStore(settings.home / "serving" / "tokens.json")
    secret = store.create("ann", scopes or [Scope.predict]).secret
    row = {"rows": world.features("outcomes", 1).to_pylist()}
    bearer = {"authorization": f"Bearer {secret}"} if scopes else {}
    with client_of(settings) as client:
        answer = ask(client, "outcomes", row, query=query, **bearer)
        assert answer.status_code == status, answer.text
        assert client.get("/models", headers=bearer).status_code == (200 if scopes else 401)
        assert client.get("/health").status_code == 200
        assert client.get("/").status_code == 200
    if status == 200:
        [table] = logged(settings).families["outcomes"]
        assert table["caller"].to_pylist() == ["ann"]
