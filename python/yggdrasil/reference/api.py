"""The API's own document (OpenAPI 3.1) as a page to read. No I/O; made once, of a document of ours."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from yggdrasil.reference import text

JSON_DEPTH_MAX: Final = 6
REF: Final = "#/components/schemas/"
METHODS: Final = ("get", "post", "put", "delete")
TITLES: Final = {"openai": "OpenAI-compatible"}
INTRODUCTION: Final = """
Everything is JSON over HTTP. Money is in integer micro-cents (10⁻⁶ cent) where a name ends in `_microcents`,
in whole cents where it ends in `_cents`; times are RFC 3339. The document behind this page is
[/schema/openapi.json](/schema/openapi.json).

**Who you are.** `authorization: Bearer` and an access token or an API key (`ygg_…`). A credential is of one
network: what belongs to others is answered as what does not exist.

**Errors.** Below `/v1/` they have the shape that OpenAI's clients read, elsewhere they are problem documents
(RFC 9457). Both carry a `code`, and [each code has a page](/docs/errors); `field` names what broke a rule.

**Lists** come in pages: `limit` (at most 100), and `cursor`, which is the `next` of the page before.
"""


class Operation(msgspec.Struct, frozen=True):
    """One method of one path, and the place of its section."""

    method: str
    path: str
    tag: str
    anchor: str
    said: Mapping[str, Any]


Codes = Callable[[Operation, int], Iterable[str]]


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """All operations, in the order of the document, those of a tag together."""
    found = [
        Operation(method, path, said.get("tags", ["more"])[0], _anchor(method, path), said)
        for path, item in document["paths"].items()
        for method in METHODS
        if (said := item.get(method)) is not None
    ]
    tags = list(dict.fromkeys(each.tag for each in found))
    return sorted(found, key=lambda each: tags.index(each.tag))


def render(document: Mapping[str, Any], codes: Codes) -> str:
    """The page. `codes`: the error codes that a status of an operation can stand for."""
    every = operations(document)
    schemas = document["components"]["schemas"]
    side, body, tag = "", "", ""
    for each in every:
        if each.tag != tag:
            tag = each.tag
            name = html.escape(TITLES.get(tag, tag.capitalize()))
            side += f"<strong>{name}</strong>"
            body += f"<h2>{name}</h2>"
        short = html.escape(_short(each.path))
        side += f'<a href="#{each.anchor}">{_method(each.method)}<span>{short}</span></a>'
        body += _section(each, schemas, codes)
    body += '<h2 id="schemas">Shapes</h2>'
    body += "".join(_shape(name, schemas[name]) for name in sorted(schemas))
    title = f"{document['info']['title']} {document['info']['version']}"
    side += '<strong>More</strong><a href="#schemas">Shapes</a><a href="/docs/errors">Error codes</a>'
    side += '<a href="/schema/openapi.json">OpenAPI document</a>'
    head = f'<h1>{html.escape(title)}</h1><p class="soft">The REST API of this server</p>'
    return text.page(
        title,
        f'<div class="layout"><nav aria-label="Operations">{side}</nav>\n'
        f"<main>{head}{text.blocks(INTRODUCTION)}{body}</main></div>",
    )


def _section(each: Operation, schemas: Mapping[str, Any], codes: Codes) -> str:
    made = f'<section id="{each.anchor}"><h3><a href="#{each.anchor}">{_method(each.method)} '
    made += f'<span class="path">{html.escape(each.path)}</span></a></h3>'
    # A summary without a space is the handler's name, which says nothing.
    summary = each.said.get("summary", "")
    made += f"<p><strong>{text.inline(summary)}</strong></p>" if " " in summary else ""
    made += text.blocks(each.said.get("description", ""))
    parameters = [one for one in each.said.get("parameters", ()) if one["in"] in ("path", "query", "header")]
    if parameters:
        made += "<h4>Parameters</h4><table>"
        for one in parameters:
            # What is left out is not there: in a path, a query or a header nothing is null.
            made += _row(one["name"], _given(one.get("schema", {})), one.get("required", False))
        made += "</table>"
    content = each.said.get("requestBody", {}).get("content", {})
    for schema in [one["schema"] for one in content.values()][:1]:
        made += f"<h4>Body</h4>{_body(schema, schemas)}"
        sample = msgspec.json.format(msgspec.json.encode(example(schema, schemas, 0)), indent=2).decode()
        made += (
            f"<details><summary>A body to begin with</summary><pre><code>{html.escape(sample)}</code></pre>"
        )
        made += "</details>"
    made += f"<h4>Answers</h4><p>{_answers(each.said['responses'])}</p>"
    failures = [int(status) for status in each.said["responses"] if int(status) >= 400]
    items = "".join(f"<li>{status} {_links(codes(each, status))}</li>" for status in failures)
    return f'{made}<ul class="codes soft">{items}</ul></section>\n'


def _body(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    name = str(schema.get("$ref", "")).removeprefix(REF)
    return _fields(schemas[name]) if name in schemas else f"<p>{_kind(schema)}</p>"


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    # What must be there first, then the document's own order.
    names = sorted(schema.get("properties", {}), key=lambda name: name not in required)
    rows = [_row(name, schema["properties"][name], name in required) for name in names]
    return f"<table>{''.join(rows)}</table>" if rows else f"<p>{_kind(schema)}</p>"


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    words = text.blocks(schema["description"]) if schema.get("description") else ""
    anchor = html.escape(f"schema-{name}")
    made = f'<section id="{anchor}"><h3><a class="path" href="#{anchor}">{html.escape(name)}</a></h3>{words}'
    return f"{made}{_fields(schema)}</section>\n"


def _given(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = [one for one in schema.get("oneOf", ()) if one.get("type") != "null"]
    return {**schema, "oneOf": kinds} if kinds else schema


def _row(name: str, schema: Mapping[str, Any], required: bool) -> str:
    must = ' <span class="must">required</span>' if required else ""
    said = schema.get("description") or ""
    more = " · ".join(_rules(schema))
    told = " ".join(
        part for part in (text.inline(said), f'<span class="soft">{more}</span>' if more else "") if part
    )
    return f"<tr><td><code>{html.escape(name)}</code>{must}</td><td>{_kind(schema)}</td><td>{told}</td></tr>"


def _kind(schema: Mapping[str, Any]) -> str:
    """The type in words; shapes are links."""
    if "$ref" in schema:
        name = html.escape(str(schema["$ref"]).removeprefix(REF))
        return f'<a class="path" href="#schema-{name}">{name}</a>'
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[key]))
    if "enum" in schema:
        written = (
            one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in schema["enum"]
        )
        return ", ".join(f"<code>{html.escape(one)}</code>" for one in written)
    kind = schema.get("type", "any JSON")
    if isinstance(kind, list):
        return " or ".join(html.escape(str(one)) for one in kind)
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and schema.get("additionalProperties"):
        return f"object of {_kind(schema['additionalProperties'])}"
    form = {"uuid": "UUID", "date-time": "time"}.get(schema.get("format", ""))
    return form or html.escape(str(kind))


def _rules(schema: Mapping[str, Any]) -> Iterator[str]:
    """Its limits and its default."""
    for least, most, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ):
        low, high = (_number(schema[key]) if key in schema else None for key in (least, most))
        if low is not None and low == high:
            yield f"{low}{unit.removesuffix('s') if low == '1' else unit}"
        elif low is not None and high is not None:
            yield f"{low} to {high}{unit}"
        elif low is not None or high is not None:
            yield f"at least {low}{unit}" if high is None else f"at most {high}{unit}"
    if "default" in schema and schema["default"] is not None:
        yield f"default <code>{html.escape(msgspec.json.encode(schema['default']).decode())}</code>"


def _number(value: float) -> str:
    return f"{int(value) if value == int(value) else value:,}"


def _answers(responses: Mapping[str, Any]) -> str:
    made = []
    for status, said in responses.items():
        if int(status) < 400:
            kinds = [
                f"{_kind(one.get('schema', {}))} <span class='soft'>{html.escape(media)}</span>"
                for media, one in (said.get("content") or {}).items()
            ]
            made.append(f"<code>{status}</code> {' or '.join(kinds) or 'nothing'}")
    return "; ".join(made)


def _links(codes: Iterable[str]) -> str:
    return ", ".join(f'<a href="/docs/errors/{code}">{code}</a>' for code in codes)


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> Any:
    """The least that fits, with `…` where a person must write."""
    if "$ref" in schema:
        return example(schemas[str(schema["$ref"]).removeprefix(REF)], schemas, depth)
    if schema.get("default") is not None:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("oneOf", "anyOf"):
        if schema.get(key):
            return example(schema[key][0], schemas, depth)
    kind = schema.get("type")
    if kind == "object" and depth < JSON_DEPTH_MAX:
        required = schema.get("required", ())
        properties = schema.get("properties", {})
        return {
            name: example(properties[name], schemas, depth + 1) for name in properties if name in required
        }
    if kind == "array":
        return [example(schema.get("items", {}), schemas, depth + 1)] if schema.get("minItems") else []
    if kind == "integer":
        return int(schema.get("minimum", 0))
    return {"number": 0.0, "boolean": False, "object": {}, "null": None}.get(str(kind), "…")


def _method(method: str) -> str:
    return f'<span class="method {method}">{method}</span>'


def _short(path: str) -> str:
    return path.removeprefix("/api/v1/marketplace").removeprefix("/api/v1")


def _anchor(method: str, path: str) -> str:
    return method + "".join(
        each if each.isalnum() else "-" for each in path.replace("{", "").replace("}", "")
    )
