"""The server does what its own description says, whatever is sent to it."""

from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from tests.serving.world import World

FAMILIES = ["late_flights", "minutes_late", "outcomes"]
PREDICTIONS = [f"POST /models/{family}/predict" for family in FAMILIES]
OTHERS = ["GET /health", "GET /ready", "GET /models", "GET /metrics"] + [
    f"GET /models/{family}" for family in FAMILIES
]
_SENT = ("method", "url", "params", "headers", "json")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def document(shared_client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = shared_client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def schema(document: dict[str, Any]) -> BaseSchema:
    return schemathesis.openapi.from_dict(document)


def operation(schema: BaseSchema, label: str) -> APIOperation[Any, Any, Any, Any]:
    found = schema.find_operation_by_label(label)
    assert found is not None
    return found


def test_the_document_is_valid(document: dict[str, Any], schema: BaseSchema) -> None:
    assert document["openapi"].startswith("3.1")
    schema.validate()


def test_it_describes_every_operation_of_every_family(schema: BaseSchema) -> None:
    labels = [found.ok().label for found in schema.get_all_operations()]
    assert sorted(labels) == sorted([*PREDICTIONS, *OTHERS])


@pytest.mark.parametrize("family", FAMILIES)
def test_its_examples_are_accepted(
    shared_client: TestClient, document: dict[str, Any], family: str
) -> None:
    path = f"/models/{family}/predict"
    body = document["paths"][path]["post"]["requestBody"]["content"]
    examples = body["application/json"]["examples"]
    assert set(examples) == {"rows", "columns"}
    for example in examples.values():
        answer = shared_client.post(path, json=example["value"])
        assert answer.status_code == 200, answer.text
        assert answer.json()["warnings"] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_of_answer_is_as_described(
    shared_client: TestClient, document: dict[str, Any], world: World, family: str
) -> None:
    path = f"/models/{family}/predict"
    described = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    validator = jsonschema.Draft202012Validator(
        {**described["schema"], "components": document["components"]}
    )
    rows = world.features(family, 3)
    bodies = [
        {"rows": rows.to_pylist()},
        {"columns": rows.to_pydict()},
        *([{"entities": [{"flight_id": 2000}]}] if family != "minutes_late" else []),
    ]
    for body in bodies:
        for query in ("", "?explain=true"):
            answer = shared_client.post(f"{path}{query}", json=body)
            assert answer.status_code == 200, answer.text
            validator.validate(answer.json())


@pytest.mark.parametrize("label", OTHERS)
def test_what_can_be_read_is_as_described(
    shared_client: TestClient, schema: BaseSchema, label: str
) -> None:
    send_generated(shared_client, operation(schema, label), GenerationMode.POSITIVE, examples=1)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("label", PREDICTIONS)
def test_generated_requests_are_answered_as_described(
    shared_client: TestClient, schema: BaseSchema, label: str, mode: GenerationMode
) -> None:
    statuses = send_generated(shared_client, operation(schema, label), mode, examples=60)
    expected = {GenerationMode.POSITIVE: 200, GenerationMode.NEGATIVE: 422}
    assert expected[mode] in statuses


def send_generated(
    client: TestClient, asked: APIOperation[Any, Any, Any, Any], mode: GenerationMode, examples: int
) -> set[int]:
    """Send what Schemathesis makes of a description, check the answers, return their statuses."""
    statuses = set()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=asked.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        sent = case.as_transport_kwargs(base_url=str(client.base_url))
        body = {"content": sent["data"]} if "data" in sent else {}
        kept = {
            key: sent[key] for key in ("method", "url", "params", "headers", "json") if key in sent
        }
        answer = client.request(**kept, **body)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    send()
    return statuses
