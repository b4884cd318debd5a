"""The TOML file behind `--config`: options under their long names, Kafka's client properties in a table [client].

It reads and sorts; what a value must look like is decided in settings.py and client_properties.py.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csv2kafka.errors import UsageError


@dataclass(frozen=True)
class ConfigFile:
    """`options` are fields of the settings, `client` is property -> text; all empty when there is no file."""

    options: Mapping[str, Any] = field(default_factory=dict)
    client: Mapping[str, str] = field(default_factory=dict)
    bootstrap: str | None = None
    command_config: str | None = None


def read_config(path: Path, fields: Mapping[str, str]) -> ConfigFile:
    """Read the file at `path`; `fields` maps an option's name in the file to its field.

    Raises UsageError for a file that cannot be read and for a key without a meaning.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}", hint="check the path") from error
    except ValueError as error:  # TOMLDecodeError says line and column, and repeats no value
        reason = error if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise UsageError(f"--config {path} cannot be read as TOML: {reason}", hint="correct the file") from None
    content = {key.replace("_", "-"): value for key, value in content.items()}
    for key in ("bootstrap-server", "command-config", "compression"):
        if not isinstance(content.get(key, ""), str):
            raise UsageError(f"--config {path}: {key} is no text", hint="put it in quotes")
    bootstrap, command_config = content.pop("bootstrap-server", None), content.pop("command-config", None)
    client = content.pop("client", {})
    if not isinstance(client, dict):
        raise UsageError(f"--config {path}: client is no table", hint='[client] and below it "acks" = "all"')
    for key in content.keys() - fields.keys():
        known = sorted({*fields, "bootstrap-server", "command-config", "client"})
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
        raise UsageError(f"--config {path}: there is no option {key!r}", hint=hint)
    options = {fields[key]: value for key, value in content.items()}
    return ConfigFile(options, dict(_flatten(client)), bootstrap, command_config)


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """To TOML, security.protocol = "SSL" without quotes around the key is a table within a table."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value).lower() if isinstance(value, bool) else str(value)
