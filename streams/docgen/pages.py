"""Reference pages generated from the code: settings, command line, events and records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from streams.contract.schemas import EVENTS, RECORDS, Message
from streams.contract.topics import INPUTS, OUTPUTS


def settings_page() -> str:
    """Returns the page of settings."""
    from streams.runtime.settings import describe, load_settings

    lines = ["| setting | default | meaning | allowed |", "|---|---|---|---|"]
    for one in describe(load_settings(_env_file=None)):
        default = f"`{one.default}`" if one.default else "unset"
        lines.append(f"| `{one.name}` | {default} | {_cell(one.meaning)} | {_cell(one.allowed)} |")
    return (
        "# Settings\n\nSettings come from flags, the environment, or an `.env` file, in this order"
        " of precedence. `seatflow settings` shows the values in effect.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def command_page() -> str:
    """Returns the page of the command line, from the typer application."""
    import typer.main

    from streams.cli.main import app

    parts = ["# The command line\n"]
    for name, command in _commands("seatflow", typer.main.get_command(app)):
        text = re.sub(r"\[/?\w+\]", "", (command.help or "").strip())
        usage = " ".join(_argument(p) for p in command.params if p.param_type_name == "argument")
        parts.append(f"## `{name}`\n\n{text}\n\n```text\n{name} [OPTIONS] {usage}".rstrip())
        parts.append("```\n")
        options = [p for p in command.params if p.param_type_name == "option"]
        if options:
            parts.append("| option | meaning |\n|---|---|")
            parts += [_option(option) for option in options]
            parts.append("")
    return "\n".join(parts)


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if nested := getattr(command, "commands", None):
        for word, each in nested.items():
            yield from _commands(f"{name} {word}", each)
    else:
        yield name, command


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = "`, `".join([*parameter.opts, *parameter.secondary_opts])
    metavar = f" {parameter.metavar}" if parameter.metavar else ""
    needed = " (required)" if parameter.required else ""
    return f"| `{names}{metavar}` | {_cell(parameter.help or '')}{needed} |"


def events_page() -> str:
    """Returns the page of events and records, from the schemas."""
    parts = [
        "# Events and records\n",
        "All values are JSON in UTF-8, all keys strings. Unknown members are ignored. Each schema"
        " is a file beside these pages.\n",
        "**In `user.upserted`, `group.upserted` and `tenant.updated`, an absent member keeps its"
        " value, and `null` clears it.** Models that are generated from the schemas write `null`"
        " for every member that was not given: leave these out, in pydantic with"
        " `model_dump_json(exclude_unset=True)`.\n",
    ]
    for title, topics, messages in (
        ("Inputs", INPUTS, EVENTS),
        ("Outputs", OUTPUTS, RECORDS),
    ):
        parts.append(f"## {title}\n")
        for topic in topics:
            listed = [m for m in messages if m.topic == topic.name]
            key = listed[0].key if listed else "the original key"
            parts.append(f"### `licensing.{topic.name}`\n")
            parts.append(f"Key: {key}. Cleanup: {topic.cleanup}.\n")
            for message in listed:
                parts += _message(message)
            if not listed:
                parts.append(
                    "Input that could not be decoded, byte for byte, with the headers `dlq.topic`,"
                    " `dlq.partition`, `dlq.offset`, [`dlq.code`](dead-letters.md) and"
                    " `dlq.reason`.\n"
                )
    return "\n".join(parts)


def _message(message: Message) -> list[str]:
    parts = [f"**`{message.name}`** {message.summary} ([schema](schemas/{message.file}))\n"]
    parts.append("| member | type | |\n|---|---|---|")
    required = message.schema["required"]
    for name, schema in message.schema["properties"].items():
        needed = "required" if name in required and message in EVENTS else ""
        parts.append(f"| `{name}` | {_cell(_describe(schema))} | {needed} |")
    return [*parts, ""]


def _describe(schema: dict[str, Any]) -> str:
    """Describes a schema in a few words."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        words = ", ".join(f"`{each}`" for each in schema["enum"])
    elif "anyOf" in schema:
        words = " or ".join(_describe(each) for each in schema["anyOf"])
    else:
        kinds = schema.get("type", "anything")
        words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
        if "items" in schema:
            words = f"list of {_describe(schema['items'])}"
        elif schema.get("pattern", "").startswith("^[A-Za-z0-9_.:@-]"):
            words = words.replace("string", "id")
        elif members := schema.get("properties"):
            words = "object of " + ", ".join(f"`{name}`" for name in members)
    if "default" in schema and schema["default"] != []:
        words += f"; default `{json.dumps(schema['default'])}`"
    described = schema.get("description")
    return f"{words}: {described}" if described else words


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
