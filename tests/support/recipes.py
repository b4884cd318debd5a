"""Seeded options of loads and texts that suit them, for the campaign's generators."""

from __future__ import annotations

import random

from tests.support.record_oracle import PLAIN, Recipe, Rule

KINDS = ("string", "int", "float", "decimal", "bool", "date", "timestamp", "json")
GOOD = {
    "string": ("", "a", "é😀", "NA"),
    "int": ("0", "-1", "42", "123456789012345678901234567890", "-0"),
    "float": (
        "0",
        "1.5",
        "-0.25e10",
        "1E+3",
        "1e308",
        "1.797693134862315807e308",
        "17976931348623158" + "0" * 292,
        "1e-999",
    ),
    "decimal": ("0.10", "1e400", "-12.50", "99999999999999999999.999999999999"),
    "bool": ("true", "FALSE", "t", "F", "1", "0", "True"),
    "date": ("2024-02-29", "0001-01-01", "9999-12-31", "2000-02-29"),
    "timestamp": (
        "2024-02-29T23:59:59Z",
        "2024-01-01 00:00",
        "2024-01-01T00:00:00.123456789+05:30",
        "2024-06-30T12:00-0800",
    ),
    "json": (
        "{}",
        "[]",
        '{"a":[1,-2.5e3,null,true,false,"x\\u00e9\\n"]}',
        ' [ 1 , "é" ] ',
        "null",
        '"s"',
        "-0.0",
        "[[[[]]]]",
    ),
}
BAD = {
    "string": (),
    "int": ("", "+1", "007", "1.0", "1e3", "-", "0x1", "1 ", " 1", "\u0661", "1_000", "--1", "-01", '"1"'),
    "float": (
        "",
        "NaN",
        "inf",
        "-Infinity",
        "1e400",
        "1.797693134862315808e308",
        "1.",
        ".5",
        "1e",
        "00.1",
        "1e+",
        "-",
        "1,5",
    ),
    "decimal": ("", "NaN", "1e", "+1", "01", "1.2.3"),
    "bool": ("", "yes", "2", "TRUEE", "tru", "\u212a", "01", "on"),
    "date": (
        "",
        "2023-02-29",
        "1900-02-29",
        "2024-13-01",
        "2024-1-01",
        "0000-01-01",
        "2024-04-31",
        "2024-01-011",
        "20240101",
    ),
    "timestamp": (
        "",
        "2024-01-01",
        "2024-01-01T24:00",
        "2024-01-01T00:60",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00.",
        "2024-01-01T00:00z",
        "2024-01-01T00:00+24:00",
        "2024-01-01T00:00+1",
    ),
    "json": (
        "",
        "{",
        "[1,]",
        "{'a':1}",
        "NaN",
        "[1] x",
        '{"a" 1}',
        '"\\x"',
        '"\n"',
        "01",
        "[" * 600 + "]" * 600,
        "tru",
        '{"a":1,}',
        '"\\u12"',
    ),
}
_PLACES = ("file.csv", "s3://bücket/kéy.csv")


def recipe(rng: random.Random) -> Recipe:
    if rng.random() < 0.4:
        return PLAIN
    rules = None
    if rng.random() < 0.6:
        rules = tuple(
            Rule(rng.choice(KINDS), rng.choice((None, True, False)), rng.random() < 0.2, rng.random() < 0.2)
            for _ in range(rng.randint(1, 4))
        )
    has_header = rng.random() < 0.85
    return Recipe(
        rules,
        rng.choice((None, None, "", "NA", "\\N", 'a"b', "é\n")),
        rng.choice(((), (), (0,), (1,), (2, 0), (0, 1, 2))),
        rng.choice(("json", "json", "json", "csv", "raw")),
        rng.choice((None, None, *_PLACES)),
        rng.choice(((), (), (("source", "a"), ("é", "")))),
        rng.choice((0, 0, 0, 0, 1, 2)),
        has_header,
        None if rng.random() < (0.95 if has_header else 0.4) else ("x", "y", "z")[: rng.randint(1, 3)],
    )


def text_for(rng: random.Random, recipe: Recipe, column: int) -> str | None:
    """A text that mostly suits the column; None where any text does."""
    if recipe.null_value is not None and rng.random() < 0.1:
        return recipe.null_value
    if recipe.rules is None:
        return None
    rule = recipe.rules[column % len(recipe.rules)]
    if rule.nullable and rng.random() < 0.1:
        return ""
    if rule.kind == "string":
        return None
    if rng.random() < 0.02:
        return rng.choice(BAD[rule.kind])
    if rule.kind in ("int", "decimal") and rng.random() < 0.5:
        return str(rng.randint(-(10 ** rng.randint(1, 25)), 10 ** rng.randint(1, 25)))
    if rule.kind == "float" and rng.random() < 0.3:
        return repr(rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300))
    return rng.choice(GOOD[rule.kind])
