"""The generated parts of pages: the commands as click knows them, JSON fields, the catalogue.

A page says ``<!-- commands -->``, ``<!-- schema: verify -->``, ``<!-- architectures -->`` or ``<!-- layouts -->`` where
these belong. Commands are described here and
not by mkdocs-click, which puts them in alphabetical order, loses the groups of options that ``--help`` shows, and runs
the lines of an example together.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from r2convert import api
from r2convert.cli.app import COMMANDS, application
from r2convert.cli.options import Option

_LOG = logging.getLogger("mkdocs.hooks")

_BLOCK = "\b"
"""Marks lines that click must not join."""


def on_page_markdown(markdown: str, config: Any, **_: object) -> str:
    """Fill in a page's generated parts; MkDocs calls this for every page."""
    schemas = Path(config["docs_dir"]) / "reference" / "schemas"
    generated = {"commands": describe_commands, "architectures": describe_architectures, "layouts": describe_layouts}
    for name, describe in generated.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", "\n".join(describe()))
    return re.sub(
        r"<!-- schema: (\w+) -->",
        lambda found: "\n".join(describe_schema(schemas / f"{found[1]}.schema.json")),
        markdown,
    )


def on_page_content(html: str, **_: object) -> str:
    """Remove Sphinx roles around names in docstrings; MkDocs calls this for every page."""
    return re.sub(r":(?:attr|class|func|meth|mod):<code>(?:~[a-z0-9_.]*\.)?", "<code>", html)


def on_post_page(output: str, page: Any, **_: object) -> str:
    """Warn, which is an error in strict mode, about anything that a browser would fetch from another machine."""
    for address in re.findall(
        r'<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]*)"', output
    ):
        _LOG.warning("%s loads %s", page.file.src_uri, address)
    return output


def describe_commands() -> Iterator[str]:
    """Every command as Markdown: what it does, its arguments and options, its examples."""
    parent = click.Context(application, info_name="r2convert")
    for name in COMMANDS:
        command = application.get_command(parent, name)
        assert command is not None  # noqa: S101 - listed commands exist
        context = click.Context(command, info_name=name, parent=parent)
        yield f"## r2convert {name} {{#{name}}}\n"
        yield f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```\n"
        yield from _paragraphs(command.help or "")
        yield from _options(command, context)
        yield from _paragraphs(command.epilog or "")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, inspect.cleandoc(text).split("\n\n")):
        lines = paragraph.strip("\n").splitlines()
        if _BLOCK not in lines:
            yield " ".join(lines) + "\n"
            continue
        heading, *examples = lines[lines.index(_BLOCK) + 1 :]
        yield f"{heading}\n\n```bash"
        yield from (line.strip() for line in examples)
        yield "```\n"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, Option) and record is not None:
            groups.setdefault(parameter.group, []).append(record)
    for group, records in groups.items():
        yield f"| {group.lower()} | |\n|---|---|"
        yield from (f"| `{names}` | {_cell(meaning)} |" for names, meaning in records)
        yield ""


def describe_architectures() -> Iterator[str]:
    """Every architecture with its weights, one row each."""
    yield "| architecture | parameters | FLOPs | weights | top-1 | top-5 | files |\n|---|--:|--:|---|--:|--:|---|"
    for row in api.list_variants():
        sizes = [row.published.get(metric, "") for metric in ("parameters", "flops")]
        cells = [f"`{row.variant.id}`", *sizes]
        for weights in row.weights:
            accuracies = [weights.published.get(metric, "").removesuffix(" %") for metric in ("top1", "top5")]
            files = [f"[{source.layout}]({source.urls[0]})" for source in weights.weights.sources]
            files += [f"[by hand]({weights.weights.page})"] if weights.weights.page else []
            yield f"| {' | '.join([*cells, f'`{weights.tag}`', *accuracies, ', '.join(files)])} |"
            cells = [""] * len(cells)
    yield ""


def describe_layouts() -> Iterator[str]:
    """Every layout: who reads it, what can be built there, and what is computed differently."""
    for row in api.list_layouts():
        yield f"### {row.facts.name}\n\nRead by {row.facts.reader}.\n"
        yield f"- **Written as** {' '.join(f'`{each}`' for each in row.facts.written_as) or 'nothing: it is read only'}"
        yield from (f"- **Without** some tensors: {each}" for each in filter(None, [row.facts.absent]))
        yield from (f"- **Builds** {each}" for each in filter(None, [_ids(row.builds)]))
        yield from (f"- **Computes differently** {_ids(ids)}: {how}" for how, ids in row.otherwise.items())
        yield from (f"- **Caution**: {each}" for each in filter(None, [row.facts.caution]))
        yield from (f"- **Cannot build** {each}: {row.limits}" for each in filter(None, [_ids(row.unbuilt)]))
        yield ""


def _ids(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def describe_schema(path: Path) -> Iterator[str]:
    """A schema's fields as a table, objects inside it by dotted names."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    yield f"{schema['description']} Schema: [`{path.name}`](schemas/{path.name}).\n"
    yield "| field | type | meaning |\n|---|---|---|"
    for name, field in _fields(schema, schema.get("$defs", {}), ""):
        yield f"| `{name}` | {_cell(_type(field))} | {_cell(field.get('description', ''))} |"
    yield ""


def _fields(schema: dict[str, Any], shared: dict[str, Any], parent: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, given in schema.get("properties", {}).items():
        field = {**shared[given["$ref"].rpartition("/")[2]], **given} if "$ref" in given else given
        items = _items(field)
        yield parent + name, field
        yield from _fields(field, shared, f"{parent}{name}.")
        yield from _fields(items, shared, f"{parent}{name}[].")


def _items(field: dict[str, Any]) -> dict[str, Any]:
    """What an array holds; of one whose places are described one by one, nothing."""
    items = field.get("items")
    return items if isinstance(items, dict) else {}


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    types = field.get("type", "any")
    names = types if isinstance(types, list) else [types]
    of = _items(field).get("type")
    return " or ".join(f"array of {of}" if name == "array" and of else name for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
