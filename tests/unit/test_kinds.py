"""Each type's verdicts, one text at a time, against Python's own json, float and datetime."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csv2kafka import kindkernel
from csv2kafka.csvkernel import PADDING
from tests.support import recipes, record_oracle

patient = settings(deadline=None, print_blob=True, derandomize="CI" in os.environ)
KINDS = [kind for kind in recipes.KINDS if kind != "string"]
DEPTHS = np.empty(kindkernel.MAX_DEPTH, np.uint8)


def takes(kind: str, text: str) -> bool:
    data = np.frombuffer(b'"' + text.encode() + b'"' * PADDING, np.uint8).copy()
    end = len(data) - PADDING
    return bool(kindkernel.fits(getattr(kindkernel, kind.upper()), data, 1, end, DEPTHS))


def agree(kind: str, text: str) -> None:
    if text:  # nothing at all is a matter of nullability
        assert takes(kind, text) == record_oracle._fits(kind, text), text


@pytest.mark.parametrize("kind", KINDS)
def test_known_texts(kind: str) -> None:
    assert [text for text in recipes.GOOD[kind] if not takes(kind, text)] == []
    assert [text for text in recipes.BAD[kind] if text and takes(kind, text)] == []
    for others in (*recipes.GOOD.values(), *recipes.BAD.values()):
        for text in others:
            agree(kind, text)


@pytest.mark.parametrize("kind", ["int", "decimal", "float"])
def test_every_short_number(kind: str) -> None:
    for length in range(1, 6):
        for characters in itertools.product("-+.e019", repeat=length):
            agree(kind, "".join(characters))


@pytest.mark.parametrize("kind", ["date", "timestamp", "bool", "json", "float"])
def test_every_character_changed(kind: str) -> None:
    for text in recipes.GOOD[kind]:
        for at in range(min(len(text), 60)):
            for character in '0123456789-+:.TZtz eE,[]{}"\\u/x\x00\x1fé':
                agree(kind, text[:at] + character + text[at + 1 :])
            agree(kind, text[:at])
            agree(kind, text[:at] + text[at + 1 :])


def test_every_day() -> None:
    for year in ("0000", "0001", "0004", "1600", "1700", "1900", "2000", "2023", "2024", "9999"):
        for month, day in itertools.product(range(15), range(34)):
            agree("date", f"{year}-{month:02}-{day:02}")


def test_every_minute_and_zone() -> None:
    for hour, minute in itertools.product(range(26), range(64)):
        for text in (
            f"{hour:02}:{minute:02}",
            f"23:59:{minute:02}",
            f"00:00+{hour:02}:{minute:02}",
            f"00:00-{hour:02}",
        ):
            agree("timestamp", f"2024-01-01T{text}")


class TestDoubles:
    LARGEST = str(2**1024 - 2**970 - 1)  # the largest integer that is still nearer to the largest double
    INFINITE = str(2**1024 - 2**970)

    @pytest.mark.parametrize("form", ["{}", "-{}", "{}.0", "{}.9", "{}e0", "{}0e-1", "0.{}e309", "{}E+0"])
    def test_the_edge_of_infinity_in_every_form(self, form: str) -> None:
        agree("float", form.format(self.LARGEST))
        agree("float", form.format(self.INFINITE))
        agree("float", form.format(self.INFINITE[:-1]))

    def test_the_edge_digit_by_digit(self) -> None:
        for length in range(1, 310):
            for step in (-1, 0, 1):
                agree("float", f"{int(self.INFINITE[:length]) + step}e{309 - length}")

    @pytest.mark.parametrize("zeros", [0, 1, 400])
    def test_zero_is_finite_whatever_its_exponent(self, zeros: int) -> None:
        for text in ("0", "-0", "0.0"):
            assert takes("float", f"{text}{'0' * zeros if '.' in text else ''}e99999999999999999999999999")

    @pytest.mark.parametrize("exponent", ["9" * 30, "-" + "9" * 30, "+" + "9" * 30])
    def test_exponents_beyond_every_integer(self, exponent: str) -> None:
        assert takes("float", f"1e{exponent}") == exponent.startswith("-")

    @patient
    @given(st.from_regex(r"-?(0|[1-9][0-9]{0,320})(\.[0-9]{1,320})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
    def test_any_number(self, text: str) -> None:
        agree("float", text)
        agree("decimal", text)


class TestJson:
    @patient
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        st.booleans(),
        st.sampled_from((None, 1)),
        st.data(),
    )
    def test_what_is_written_is_read_and_what_is_broken_is_not(
        self, value: object, ascii_only: bool, indent: int | None, data: st.DataObject
    ) -> None:
        text = record_oracle.json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        text = text.encode("utf-8", "replace").decode()
        agree("json", text)
        at = data.draw(st.integers(0, len(text)))
        agree("json", text[:at] + data.draw(st.sampled_from('{}[]",:\\0-e.u nt')) + text[at:])
        agree("json", text[:at])

    def test_every_short_text(self) -> None:
        for length in range(1, 6):
            for characters in itertools.product('{}[]",:1', repeat=length):
                agree("json", "".join(characters))

    @pytest.mark.parametrize("depth", [511, 512, 513])
    def test_depth(self, depth: int) -> None:
        assert takes("json", "[" * depth + "]" * depth) == (depth <= 512)
        assert takes("json", '{"a":' * depth + "1" + "}" * depth) == (depth <= 512)
