"""A `sasl.jaas.config` line, read as Java reads it: the login module's name and its options. Pure.

No value of an option may reach a message: most are secrets.
"""

from __future__ import annotations

import re

from csv2kafka.errors import UsageError

_ENTRY = re.compile(r"\s*([\w.$]+)\s+(?:required|requisite|sufficient|optional)\b(.*);\s*", re.DOTALL)
_OPTION = re.compile(r"""\s*([\w.$-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"';=]+))""", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def read_login(line: str, origin: str) -> tuple[str, dict[str, str]]:
    """(the module's name without its package, its options). Raises UsageError, naming `origin`."""
    entry = _ENTRY.fullmatch(line)
    options, rest = {}, ""
    if entry is not None:
        for found in _OPTION.finditer(entry[2]):
            quoted = found[2] if found[2] is not None else found[3]
            options[found[1]] = found[4] if quoted is None else _unescape(quoted)
        rest = _OPTION.sub("", entry[2]).strip()
    if entry is None or rest:
        raise UsageError(
            f"{origin} cannot be read",
            hint='it reads: org.apache.kafka.common.security.plain.PlainLoginModule required username="..." '
            'password="...";',
        )
    return entry[1].rpartition(".")[2], options


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text, flags=re.DOTALL)
