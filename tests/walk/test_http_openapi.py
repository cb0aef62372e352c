"""The OpenAPI document is whole: enough for a client that is generated from it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.walk.people import Walk

DOCUMENTED = re.compile(r"\| `(\w+)` \| (\d+) \|")


@pytest.fixture
async def document(walk: Walk) -> dict[str, Any]:
    reply = await walk.nobody.get("/openapi.json")
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    place: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        place = place[step]
    found: dict[str, Any] = place
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


async def test_every_operation_has_a_name_a_tag_and_words(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(names) == len(set(names)) >= 22
    for method, path, operation in operations(document):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"]), (method, path)
        assert operation["tags"], (method, path)
        assert operation["description"], (method, path)


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(references(document)):
        assert resolved(document, {"$ref": reference})


async def test_every_refusal_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        refused = {code: told for code, told in operation["responses"].items() if code >= "400"}
        if path.startswith("/v1"):
            assert "401" in refused, (method, path)
        if "{" in path:
            assert "404" in refused, (method, path)
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= refused.keys(), (method, path)
        for code, told in refused.items():
            (media_type,) = told["content"]
            assert media_type == "application/problem+json", (method, path, code)
            schema = resolved(document, told["content"][media_type]["schema"])
            assert {"code", "status", "errors", "instance"} <= set(schema["required"])
            assert told["description"]


async def test_every_success_says_what_it_looks_like(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for code, told in operation["responses"].items():
            if not "200" <= code < "300" or code == "204":
                continue
            assert told["content"], (method, path)
            for media_type, content in told["content"].items():
                schema = resolved(document, content["schema"])
                if media_type == "application/json":
                    assert schema["type"] == "object", (method, path)
                    assert schema["required"], (method, path)
                    assert set(schema["required"]) == set(schema["properties"]), (method, path)


async def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), (method, path)


async def test_headers_and_queries_are_described(document: dict[str, Any]) -> None:
    submit = document["paths"]["/v1/sessions/{session_id}/turns"]["post"]
    events = document["paths"]["/v1/sessions/{session_id}/events"]["get"]

    given = {(p["in"], p["name"]): p["schema"] for p in submit["parameters"]}
    assert given["query", "wait"]["minimum"] == 0
    key = next(each for each in given["header", "Idempotency-Key"]["anyOf"] if "pattern" in each)
    assert (key["minLength"], key["maxLength"]) == (1, 200)
    assert ("header", "Last-Event-ID") in {(p["in"], p["name"]) for p in events["parameters"]}
    assert "text/event-stream" in events["responses"]["200"]["content"]
    assert "application/json" in events["responses"]["200"]["content"]
    assert "204" in events["responses"]


async def test_what_needs_a_token_says_so(document: dict[str, Any]) -> None:
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for method, path, operation in operations(document):
        open_to_all = (method, path) == ("post", "/v1/tokens")  # where one gets one's token
        secured = path.startswith("/v1") and not open_to_all
        assert bool(operation.get("security")) is secured, (method, path)


async def test_unknown_fields_are_refused_in_the_schemas_too(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        (content,) = operation["requestBody"]["content"].values()
        schema = content["schema"]
        named = [schema, *schema.get("anyOf", ())]
        models = [resolved(document, each) for each in named if "$ref" in each]
        assert models, (method, path)
        assert all(model["additionalProperties"] is False for model in models), (method, path)


async def test_every_method_of_a_documented_path_is_routed(
    walk: Walk, document: dict[str, Any]
) -> None:
    for method, path, _ in operations(document):
        if path.startswith("/v1"):
            named = {"session_id": "ses_1", "turn_id": "trn_1", "call_id": "call_1"}
            named |= {
                "message_id": "msg_1",
                "user_id": "ann",
                "key_id": "key_1",
                "webhook_id": "whk_1",
            }
            body = {"user": "nobody", "password": "none"} if path == "/v1/tokens" else None
            reply = await walk.nobody.request(method, path.format(**named), json=body)
            assert reply.status_code == 401, (method, path)


async def test_the_document_names_no_other_server(walk: Walk, document: dict[str, Any]) -> None:
    assert "servers" not in document
    for path in ("/docs", "/redoc"):
        assert (await walk.nobody.get(path)).status_code == 404


def test_every_code_that_http_adds_is_documented() -> None:
    from pathlib import Path

    from sessile.core.errors import SessileError
    from sessile.http import problems

    rows = set(DOCUMENTED.findall((Path(__file__).parents[2] / "docs" / "errors.md").read_text()))

    known = {
        (each.code, str(each.status))
        for each in vars(problems).values()
        if isinstance(each, type) and issubclass(each, SessileError) and each is not SessileError
    }
    assert known <= rows
    assert {("method_not_allowed", "405"), ("internal_server_error", "500")} <= rows
