"""A model's arguments against a tool's schema: what is no schema, what is never fetched, what costs too much."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from orchestrator.assistants.arguments import ArgumentsSchema
from orchestrator.assistants.base import AssistantError
from orchestrator.config import SOURCE, Settings
from visavis.service.settings import SettingsError

TREE = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}


def settings(parameters: object) -> Settings:
    tool = {"name": "weather", "description": "", "url": "https://api.example.com", "parameters": parameters}
    return SOURCE.load(Settings, [], {"VISAVIS_ASSISTANT_TOOLS": json.dumps([tool])})


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"type": "objekt"}, r"none: \$\.type: 'objekt' is not valid"),
        (
            {"properties": {"town": {"pattern": "("}}},
            r"none: \$\.properties\.town\.pattern: '\(' is not a 'regex'",
        ),
        ({"type": "string"}, 'must be of "type": "object"'),
        ({"$schema": "https://example.com/own"}, "of a dialect that is not known"),
        ({"$schema": 5}, "of a dialect that is not known"),
        ({"properties": {"a": {"$ref": "#a"}}}, r"a \$ref to '#a', which is not in it"),
        ({"properties": {"a": {"$ref": "#/type"}}, "type": "object"}, "none: 'object' is not of type"),
        ({"x": {"$ref": "http://b"}, "properties": {"a": {"$ref": "#/x"}}}, r"a \$ref to 'http://b'"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, r"a \$ref to '#/\$defs/none', which is not in it"),
        ({"properties": {"a": {"$ref": "https://example.com/a"}}}, r"a \$ref to 'https://example.com/a'"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, r"a \$ref to 'file:///etc/passwd'"),
        ({"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "below its root"),
    ],
)
def test_a_schema_that_is_none_is_refused_with_the_settings(parameters: object, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"the tool 'weather' cannot be used: .*{reason}") as told:
        settings(parameters)
    assert str(told.value).startswith("Setting assistant_tools (VISAVIS_ASSISTANT_TOOLS) cannot be used")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "draft", ["http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#"]
)
def test_earlier_drafts_are_read_as_they_say(draft: str) -> None:
    schema = ArgumentsSchema(
        {
            "$schema": draft,
            "definitions": {"n": {"type": "integer"}},
            "properties": {"a": {"$ref": "#/definitions/n"}},
        }
    )
    assert schema.written({"a": 1}) == b'{"a":1}'
    with pytest.raises(AssistantError, match="'x' is not of type 'integer'"):
        schema.written({"a": "x"})


def test_names_that_look_like_keywords_are_names() -> None:
    told = {
        "properties": {"$ref": {"type": "string"}, "$schema": {"type": "string"}},
        "default": {"$ref": "x"},
    }
    assert ArgumentsSchema(told).written({"$ref": "x"}) == b'{"$ref":"x"}'


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("something was fetched"))
    for way in ("$ref", "$dynamicRef"):
        with pytest.raises(ValueError, match="nothing is fetched"):
            ArgumentsSchema({"properties": {"a": {way: "http://127.0.0.1:1/schema"}}})


def tree(depth: int) -> dict[str, Any]:
    return {"left": tree(depth - 1), "right": tree(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({"$ref": "#"}, {}),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, {"a": 1}),
        ({"anyOf": [{"properties": {"a": {"$ref": "#"}}}] * 8, "not": {"required": ["z"]}}, None),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [*range(300), "x"]}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#"}, {}),
        ({"properties": {"a": {"multipleOf": 0.5}}}, {"a": 10**400}),
    ],
)
def test_what_costs_too_much_to_check_is_not_checked(
    schema: dict[str, Any], arguments: dict[str, Any] | None
) -> None:
    if arguments is None:
        arguments = {"a": 0}
        for _ in range(30):
            arguments = {"a": arguments}
    with pytest.raises(AssistantError, match="take too long to check: write simpler ones"):
        ArgumentsSchema(schema).written(arguments)


def test_a_long_check_leaves_nothing_to_the_next_one() -> None:
    schema = ArgumentsSchema(TREE)
    for _ in range(20):
        schema.written(tree(7))
    with pytest.raises(AssistantError, match=r"\$\.left\.right: 1 is not of type 'object'"):
        schema.written({"left": {"right": 1}})
