"""The OpenAPI document of the server, made from the contracts of the models that it serves.

Every family has a path of its own, so that the schema of a request names its features, with their
kinds, what they were in training, and an example that the model accepts.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from mlops_assets.serving.decoding import ARROW, JSON, LARGEST
from mlops_assets.serving.families import Family
from mlops_assets.serving.security.problems import MEDIA_TYPE
from mlops_assets.settings import ServeLimits
from mlops_assets.training.input_contract import InputContract, InputField, Kind
from mlops_assets.training.tasks import Binary, Multiclass, Task

_REFUSALS = {
    "401": "No valid token.",
    "403": "The token is not for this.",
    "408": "The body took too long to arrive.",
    "413": "More bytes or rows than one request may have.",
    "415": "A format that is not read.",
    "422": "A value is wrong; `errors` names each field.",
    "429": "This caller asks too often.",
    "503": "Too busy, or the answer could not be logged; `Retry-After` says when to come back.",
}
_EXAMPLE_ENTITIES = 1


def openapi_document(families: Mapping[str, Family], limits: ServeLimits) -> dict[str, Any]:
    """Return the document.

    Parameters
    ----------
    families
        What is served now.
    limits
        Of one request.
    """
    paths: dict[str, Any] = {
        "/health": _get("Whether this process answers", "health"),
        "/ready": _get("Whether predictions are answered, and by which models", "ready", "503"),
        "/models": _get("The models that are served", "models"),
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Numbers of all worker processes, for Prometheus",
                "responses": {
                    "200": {"description": "The numbers.", "content": {"text/plain": {}}},
                    **_problems(),
                },
            }
        },
    }
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    for name, family in sorted(families.items()):
        contract = family.champion.model.contract
        paths[f"/models/{name}"] = _get(f"What {name} is", f"{name}_model")
        paths[f"/models/{name}/predict"] = _predict(name, family, limits)
        schemas[f"{name}_row"] = _row(contract)
        schemas[f"{name}_columns"] = _columns(contract)
        schemas[f"{name}_prediction"] = _prediction(family.champion.model.estimator.task)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Model server",
            "version": version("mlops-assets"),
            "description": "Predictions of the champions, each with its id, the model's version "
            "and, on request, the contribution of every feature.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _get(summary: str, operation: str, *others: str) -> dict[str, Any]:
    about: dict[str, Any] = {"type": "object"}
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "responses": {
                "200": {"description": summary, "content": {JSON: {"schema": about}}},
                **{
                    code: {"description": summary, "content": {JSON: {"schema": about}}}
                    for code in others
                },
                **{code: _problem(text) for code, text in _REFUSALS.items() if code not in others},
            },
        }
    }


def _predict(name: str, family: Family, limits: ServeLimits) -> dict[str, Any]:
    contract = family.champion.model.contract
    keys = {
        column: {"type": ["string", "integer", "number", "boolean", "null"]}
        for column in family.declaration.spine.entity
    }
    forms = {
        "rows": {
            "type": "array",
            "minItems": 1,
            "maxItems": limits.batch_rows,
            "items": {"$ref": f"#/components/schemas/{name}_row"},
        },
        "columns": {"$ref": f"#/components/schemas/{name}_columns"},
        "entities": {
            "type": "array",
            "minItems": 1,
            "maxItems": limits.batch_rows,
            "items": {"type": "object", "properties": keys},
        },
    }
    one_of = [
        {
            "type": "object",
            "properties": {form: schema}
            | ({"as_of": {"type": "string", "format": "date-time"}} if form == "entities" else {}),
            "required": [form],
            "additionalProperties": False,
        }
        for form, schema in forms.items()
    ]
    return {
        "post": {
            "operationId": f"{name}_predict",
            "summary": family.declaration.description,
            "parameters": [
                {
                    "name": "explain",
                    "in": "query",
                    "description": "Also say what each feature contributed.",
                    "schema": {"type": "boolean", "default": False},
                }
            ],
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {
                        "schema": {"oneOf": one_of},
                        "examples": {
                            "rows": {"value": {"rows": [contract.example]}},
                            "columns": {
                                "value": {"columns": {k: [v] for k, v in contract.example.items()}}
                            },
                        },
                    },
                    ARROW: {"schema": {"type": "string", "format": "binary"}},
                },
            },
            "responses": {
                "200": {
                    "description": "One prediction a row, in the form of the request.",
                    "content": {
                        JSON: {"schema": _answer(name)},
                        ARROW: {"schema": {"type": "string", "format": "binary"}},
                    },
                },
                **_problems(),
            },
        }
    }


def _answer(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", "role", "request_id", "logged", "warnings", "predictions"],
        "properties": {
            "model": {"type": "string", "examples": [f"{name}/1"]},
            "role": {"enum": ["champion", "canary"]},
            "request_id": {"type": "string"},
            "logged": {"type": "boolean"},
            "warnings": {"type": "array", "items": {"type": "string"}},
            "predictions": {
                "oneOf": [
                    {
                        "type": "array",
                        "items": {"$ref": f"#/components/schemas/{name}_prediction"},
                    },
                    {"type": "object", "required": ["id"]},
                ]
            },
        },
    }


def _prediction(task: Task) -> dict[str, Any]:
    number = {"type": "number"}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    if isinstance(task, Binary):
        values: dict[str, Any] = {"probability": share, "yes": {"type": "boolean"}}
        required = ["probability"]
    elif isinstance(task, Multiclass):
        values = {
            "class": {"enum": list(task.classes)},
            "probabilities": {"type": "object", "additionalProperties": share},
        }
        required = list(values)
    else:
        values = {
            "value": number,
            "quantiles": {"type": "object", "additionalProperties": number},
        }
        required = list(values)
    return {
        "type": "object",
        "required": ["id", *required],
        "properties": {
            "id": {"type": "string"},
            **values,
            "features": {"type": "object"},
            "explanation": {"type": "object"},
        },
    }


def _row(contract: InputContract) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _value(field) for field in contract.fields},
        "required": list(contract.names),
        "additionalProperties": False,
        "examples": [contract.example],
    }


def _columns(contract: InputContract) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            field.name: {"type": "array", "minItems": 1, "items": _value(field)}
            for field in contract.fields
        },
        "required": list(contract.names),
        "additionalProperties": False,
    }


def _value(field: InputField) -> dict[str, Any]:
    kinds = {
        Kind.number: "number",
        Kind.integer: "integer",
        Kind.boolean: "boolean",
        Kind.category: "string",
    }
    kind = kinds[field.kind]
    schema: dict[str, Any] = {
        "type": [kind, "null"],
        "description": field.description,
    }
    if kind in {"number", "integer"}:
        schema |= {"minimum": -LARGEST, "maximum": LARGEST}
        if field.low is not None:
            schema["description"] += f" In training {field.low:g} to {field.high:g}."
    if kind == "string":
        schema["maxLength"] = 1000
        if field.categories:
            shown = ", ".join(field.categories[:20])
            more = len(field.categories) - 20
            schema["description"] += (
                f" In training: {shown}{f' and {more} more' if more > 0 else ''}."
            )
    schema["examples"] = [field.example]
    return schema


def _problems() -> dict[str, Any]:
    return {code: _problem(text) for code, text in _REFUSALS.items()}


def _problem(text: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {"description": text, "content": {MEDIA_TYPE: reference}}


_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "Why a request was not answered (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "kind", "expected"],
                "properties": {
                    "field": {"type": "string"},
                    "kind": {"type": "string"},
                    "expected": {"type": "string"},
                },
            },
        },
    },
}
