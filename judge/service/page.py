"""The API on one page that loads nothing from elsewhere: what can be sent, and a form to try it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

    from judge.service.service import Service

_FILE = Path(__file__).with_name("page.html")


def render_page(openapi: Mapping[str, Any], service: Service) -> str:
    """The page for an OpenAPI description."""
    schemas = openapi["components"]["schemas"]
    body = openapi["paths"]["/v1/judge"]["post"]["requestBody"]["content"]["application/json"]
    return _template().render(
        api=openapi,
        judge=service.judge.name,
        limits=service.limits,
        has_key=service.has_key,
        operations=[
            (method.upper(), path, operation)
            for path, methods in openapi["paths"].items()
            for method, operation in methods.items()
        ],
        models=[(name, schemas[name], _fields(schemas[name])) for name in sorted(schemas)],
        example=json.dumps(body["examples"]["many"]["value"], indent=2),
    )


def _fields(schema: Mapping[str, Any]) -> list[tuple[str, str, bool, str]]:
    """Name, type, whether it must be there, and description of each field."""
    required = schema.get("required", ())
    return [
        (name, _type(field), name in required, field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]


def _type(field: Mapping[str, Any]) -> str:
    """A type in words: `string`, `list of Battle`, `"A" or "B" or null`."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(_type, field["anyOf"])))
    kind = str(field.get("type", "anything"))
    return f"list of ({_type(field['items'])})" if kind == "array" else kind


@cache
def _template() -> Template:
    from jinja2 import Environment

    return Environment(autoescape=True, trim_blocks=True).from_string(_text())


@cache
def _text() -> str:
    return _FILE.read_text(encoding="utf-8")


def content_policy() -> str:
    """Allows the page its own style and script, by their hashes, and requests to its own server."""
    hashes = {
        tag: base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        for tag in ("style", "script")
        for part in re.findall(rf"<{tag}>(.*?)</{tag}>", _text(), re.DOTALL)
    }
    return (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
