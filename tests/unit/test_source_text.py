"""Compressed and transcoded objects as plain text: the exact bytes from any position, from places near it on.

Broken ones give nothing but the text's beginning; many members cost no more memory than one.
"""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from csv2kafka.errors import BadData
from csv2kafka.model import Restart, TextFormat
from csv2kafka.sources import text as text_module
from csv2kafka.sources.decompress import CODECS
from csv2kafka.sources.pieces import Piece
from csv2kafka.sources.text import TextSource, as_text
from csv2kafka.sources.transcode import ENCODINGS as KNOWN_ENCODINGS
from csv2kafka.sources.transcode import transcode
from tests.support.compressed import COMPRESS, ENCODINGS, MemorySource, compressed

BODY = b"".join(b"%d,name %d\r\n" % (row, row * 7919 % 1000) for row in range(60))
ALPHABETS = {
    "utf-8": st.characters(codec="utf-8"),
    "latin-1": st.characters(max_codepoint=0xFF),
    "cp1252": st.sampled_from([chr(code) for code in range(0x80)] + list("€ŒœžŸ™äÿ")),
    "utf-16-le": st.sampled_from('ab,\n"é日😀\ufffd\U0010ffff\ud7ff\ue000'),
    "utf-16-be": st.sampled_from('ab,\n"é日😀\ufffd\U0010ffff\ud7ff\ue000'),
}
MARKS = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}


def source_of(
    raw: bytes, codec: str | None, encoding: str = "utf-8", *, chunk: int = 1 << 20, restart: Restart | None = None
) -> TextSource:
    """With every place remembered, however near."""
    return TextSource(MemorySource(raw, chunk), TextFormat(codec, encoding), restart, apart_bytes=1)


def whole(source: TextSource, offset: int = 0) -> bytes:
    return b"".join(source.read_from(offset))


@st.composite
def objects(draw: st.DrawFn) -> tuple[bytes, str | None, str, bytes]:
    """(the object, its codec and encoding, its text as UTF-8): cut into members anywhere, empty ones too."""
    encoding = draw(st.sampled_from(ENCODINGS))
    text = draw(st.text(ALPHABETS[encoding], max_size=40))
    plain = text.encode(encoding)
    if encoding in MARKS and (draw(st.booleans()) or text.startswith(("\ufeff", "\ufffe"))):
        plain = MARKS[encoding] + plain
    codec = draw(st.sampled_from([None, *CODECS]))
    if codec is None:
        return plain, None, encoding, text.encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(plain)), max_size=4)))
    parts = [plain[start:end] for start, end in pairwise([0, *cuts, len(plain)])]
    return compressed(codec, parts), codec, encoding, text.encode()


@settings(max_examples=400, deadline=None)
@given(objects(), st.integers(1, 40), st.data())
def test_any_position_gives_the_rest_of_the_text(
    thing: tuple[bytes, str | None, str, bytes], chunk: int, data: st.DataObject
) -> None:
    raw, codec, encoding, text = thing
    first = source_of(raw, codec, encoding, chunk=chunk)
    assert whole(first) == text

    offsets = data.draw(st.lists(st.integers(0, len(text)), min_size=1, max_size=4))
    for offset in offsets:
        assert whole(first, offset) == text[offset:]
        restart = first.restart_before(offset)
        assert restart is not None
        assert restart.text_byte <= offset
        again = source_of(raw, codec, encoding, chunk=data.draw(st.integers(1, 40)), restart=restart)
        for later in offsets:  # the place must serve positions before it and behind it
            assert whole(again, later) == text[later:]
        assert again.read_at(offset, 5) == text[offset : offset + 5]


@pytest.mark.parametrize("codec", CODECS)
def test_a_member_is_a_place_to_begin(codec: str) -> None:
    parts = [BODY, b"", BODY, BODY]
    raw = compressed(codec, parts)
    source = source_of(raw, codec, chunk=50)
    whole(source)

    restart = source.restart_before(2 * len(BODY) + 5)

    assert restart == Restart(2 * len(BODY), len(compressed(codec, parts[:3])))
    memory = MemorySource(raw, 50)
    again = TextSource(memory, TextFormat(codec), restart)
    assert whole(again, 2 * len(BODY) + 5) == BODY[5:]
    assert memory.reads == [restart.object_byte]
    assert memory.bytes_read == len(raw) - restart.object_byte


@pytest.mark.parametrize("codec", CODECS)
def test_the_object_counts_what_was_read_of_it(codec: str) -> None:
    raw = compressed(codec, [BODY] * 20) + (b"" if codec in ("bz2", "lz4", "zstd") else bytes(64))
    source = source_of(raw, codec, chunk=32)
    whole(source)

    seen = [source.object_bytes(offset) for offset in range(0, 20 * len(BODY) + 1, 100)]
    assert seen == sorted(seen)
    assert source.object_bytes(0) == 0
    assert source.object_bytes(20 * len(BODY)) == len(raw)
    assert 0.3 * len(raw) < source.object_bytes(10 * len(BODY)) < 0.7 * len(raw)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("codec", CODECS)
def test_cut_short_anywhere_is_told_and_gives_the_beginning(codec: str, members: int) -> None:
    raw = compressed(codec, [BODY] * members)
    ends = {len(compressed(codec, [BODY] * number)) for number in range(1, members)}
    for size in range(len(raw)):
        got, error = read_broken(raw[:size], codec)
        assert (BODY * members).startswith(got)
        if size in ends:  # a whole number of members is a sound file: nothing can tell
            assert error is None
            continue
        assert error is not None, size
        assert error.exit_code == 65
        assert f"cut short at byte {size}" in error.message
        assert "another file is another object" in error.hint


def read_broken(raw: bytes, codec: str) -> tuple[bytes, BadData | None]:
    got = b""
    try:
        for chunk in source_of(raw, codec, chunk=17).read_from(0):
            got += chunk
    except BadData as error:
        return got, error
    return got, None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CODECS), st.data())
def test_a_damaged_byte_never_goes_unnoticed(codec: str, data: st.DataObject) -> None:
    """Each of these files has checksums, and members small enough to be proven before any of their text is given."""
    raw = bytearray(compressed(codec, [BODY, BODY]))
    second = len(COMPRESS[codec](BODY))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))

    got, error = read_broken(bytes(raw), codec)

    if error is None:
        assert got == 2 * BODY
    else:
        assert error.exit_code == 65
        assert "memory" in error.message
        assert "byte" in error.message
        assert got == (BODY if at >= second else b"")


@pytest.mark.parametrize("codec", CODECS)
def test_garbage_behind_a_member_is_not_passed_over(codec: str) -> None:
    got, error = read_broken(COMPRESS[codec](BODY) + b"garbage, and a lot of it " * 9, codec)

    assert got == BODY
    assert error is not None
    assert f"from byte {len(COMPRESS[codec](BODY))} on" in error.message


def test_a_window_too_wide_is_named() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    raw = compressor.compress(BODY) + compressor.flush()

    _, error = read_broken(raw, "zstd")

    assert error is not None
    assert "128 MiB" in error.message
    assert "--long=27" in error.hint


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_skippable_frames_are_skipped(codec: str) -> None:
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"\x28\xb5\x2f\xfd"
    raw = skippable + COMPRESS[codec](BODY) + skippable + COMPRESS[codec](BODY) + skippable
    for chunk in (1, 7, 1000):
        assert whole(source_of(raw, codec, chunk=chunk)) == 2 * BODY


@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_gzip_headers_with_all_they_may_hold_cut_anywhere(flags: int) -> None:
    member = gzip.compress(BODY, mtime=0)
    header = member[:3] + bytes([flags]) + member[4:10]
    header += b"\3\0xyz" if flags & 4 else b""
    header += b"name.csv\0" if flags & 8 else b""
    header += b"a comment\0" if flags & 16 else b""
    header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    raw = header + member[10:] + header + member[10:]
    for chunk in range(1, len(header) + 12):
        assert whole(source_of(raw, "gzip", chunk=chunk)) == 2 * BODY
    for size in range(1, len(header)):
        assert read_broken(raw[:size], "gzip")[1] is not None


def test_a_gzip_header_that_never_ends() -> None:
    got, error = read_broken(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * (3 << 20), "gzip")
    assert (got, error is not None) == (b"", True)


def repetitive(codec: str, size: int) -> bytes:
    return COMPRESS[codec](b"1,aaaa\n" * (size // 7))


@pytest.mark.parametrize("codec", CODECS)
def test_what_packs_a_thousandfold_comes_in_small_pieces(codec: str) -> None:
    raw = repetitive(codec, 12 << 20)
    source = TextSource(MemorySource(raw), TextFormat(codec))
    with closing(source.read_from(0)) as chunks:
        assert max(len(chunk) for chunk in chunks) <= 1 << 20


def test_many_small_members_cost_no_more_than_one() -> None:
    """A bgzip file has a member every 64 KiB: 30,000 of them are read with a few places and little memory."""
    rng = random.Random(3)
    body = bytes(rng.randrange(97, 123) for _ in range(64))
    member = gzip.compress(body * 1024, 1)
    end = gzip.compress(b"")  # bgzip's mark at the end
    raw = member * 3_000 + end
    source = TextSource(MemorySource(raw), TextFormat("gzip"))
    tracemalloc.start()
    size = sum(len(chunk) for chunk in source.read_from(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size == 3_000 << 16
    assert peak < 8 << 20
    near = source.restart_before(size - (20 << 20))
    assert near is not None
    assert size - (20 << 20) - near.text_byte <= 512 << 10


def test_members_of_a_few_bytes_leave_places_no_nearer_than_needed() -> None:
    raw = gzip.compress(b"1,a\n" * 50) * 100_000
    source = TextSource(MemorySource(raw), TextFormat("gzip"))
    size = sum(len(chunk) for chunk in source.read_from(0))

    place = source.restart_before(size - (8 << 20))
    assert place is not None
    assert size - (8 << 20) - place.text_byte <= 512 << 10


def test_places_are_bounded_and_dense_near_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_MOST_PLACES", 64)
    raw = compressed("gzip", [BODY] * 1000)
    source = source_of(raw, "gzip")
    whole(source)

    assert len(source._restarts._text) <= 64
    for back in range(20):
        offset = (999 - back) * len(BODY)
        assert source.restart_before(offset + 1) == Restart(offset, len(compressed("gzip", [BODY] * (999 - back))))
    for offset in (0, 5, len(BODY), 500 * len(BODY) + 3):
        assert whole(source, offset) == (BODY * 1000)[offset:]


@pytest.fixture
def long_member(monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, MemorySource, TextSource]:
    """One member, far longer than what is kept of it."""
    monkeypatch.setattr(text_module, "_KEPT_BYTES", 4 << 20)
    rng = random.Random(5)
    text = b"".join(b"%d,%d\n" % (row, rng.getrandbits(60)) for row in range(600_000))
    memory = MemorySource(gzip.compress(text, 1), 1 << 16)
    return text, memory, TextSource(memory, TextFormat("gzip"))


def take(source: TextSource, offset: int, size: int) -> bytes:
    return source.read_at(offset, size)


def test_a_read_that_was_left_goes_on(long_member: tuple[bytes, MemorySource, TextSource]) -> None:
    text, memory, source = long_member
    at = 10 << 20
    assert take(source, 0, at) == text[:at]
    assert memory.open_reads == 1, "kept, as reading anew would be long"

    for offset in (at - (3 << 20), at - 5, at - (2 << 20), at + (1 << 20)):
        assert take(source, offset, 1000) == text[offset : offset + 1000]
    assert memory.reads == [0], "never began anew"

    assert take(source, 100, 1000) == text[100:1100]
    assert memory.reads == [0, 0], "that was too far back"
    assert memory.open_reads == 0, "and near the beginning nothing is kept"

    assert whole(source, at) == text[at:]
    assert memory.open_reads == 0
    source.close()


def test_text_comes_long_before_its_member_ends(long_member: tuple[bytes, MemorySource, TextSource]) -> None:
    _, memory, source = long_member
    with closing(source.read_from(0)) as chunks:
        next(chunks)
        assert memory.bytes_read < 2 << 20


def test_a_read_that_failed_is_not_gone_on_with(long_member: tuple[bytes, MemorySource, TextSource]) -> None:
    """It would seem to be at the text's end."""
    text, memory, _ = long_member
    raw = memory.read_at(0, memory.identity.size_bytes - 1_000)
    source = TextSource(MemorySource(raw, 1 << 16), TextFormat("gzip"))
    for offset in (0, len(text) - (3 << 20), len(text) - (3 << 20)):
        with pytest.raises(BadData, match="cut short"):
            whole(source, offset)


def test_reads_side_by_side_do_not_share_what_was_left(long_member: tuple[bytes, MemorySource, TextSource]) -> None:
    text, memory, source = long_member
    take(source, 0, 10 << 20)
    offsets = [(9 << 20) + 7, 9 << 20, 11 << 20]
    reads = [source.read_from(offset) for offset in offsets]
    got = [b"", b"", b""]
    for _ in range(3):
        for number, read in enumerate(reads):
            got[number] += next(read)
    for read in reads:
        read.close()

    for offset, found in zip(offsets, got, strict=True):
        assert text[offset : offset + len(found)] == found
    assert memory.open_reads == 1
    source.close()
    assert memory.open_reads == 0


def test_what_is_left_after_the_source_was_closed_is_ended(
    long_member: tuple[bytes, MemorySource, TextSource],
) -> None:
    _, memory, source = long_member
    read = source.read_from(9 << 20)
    next(read)
    source.close()
    read.close()
    assert memory.open_reads == 0


def test_a_position_outside_the_text_is_the_callers_mistake() -> None:
    source = source_of(gzip.compress(BODY), "gzip")

    assert whole(source, len(BODY)) == b""
    with pytest.raises(ValueError, match="outside"):
        source.read_from(-1)
    with pytest.raises(ValueError, match="outside"):
        whole(source, len(BODY) + 1)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_no_text_becomes_no_utf8_where_it_is(encoding: str) -> None:
    """Of the encodings that have such: the row can then be found by who reads rows."""
    bad: dict[str, Sequence[bytes]] = {
        "cp1252": [b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d"],
        "utf-16-le": [b"\x00\xd8", b"\x00\xdc", b"\x00\xdc\x00\xd8"],
        "utf-16-be": [b"\xd8\x00", b"\xdc\x00", b"\xd8\x00\xd8\x00"],
        "utf-8": [b"\xff"],
        "latin-1": [],
    }
    for wrong in bad[encoding]:
        # Windows-1252's are what continues a character of UTF-8: behind one, too, they must not become text.
        raw = "1,é".encode(encoding) + wrong + "Ã\n2,b\n".encode(encoding)
        for chunk in range(1, len(raw)):
            text = whole(source_of(raw, None, encoding, chunk=chunk))
            before, after = "1,é".encode(), "Ã\n2,b\n".encode()
            assert text.startswith(before)
            assert text.endswith(after)
            middle = text[len(before) : len(text) - len(after)]
            assert middle
            with pytest.raises(UnicodeDecodeError):
                middle.decode()


def test_only_the_first_character_may_be_a_mark() -> None:
    raw = "\ufeffa\n\ufeffb\n\ufeff".encode("utf-16-le")
    source = source_of(raw, None, "utf-16-le", chunk=6)
    assert whole(source) == "a\n\ufeffb\n\ufeff".encode()
    for offset in (2, 5, 7):
        assert whole(source, offset) == "a\n\ufeffb\n\ufeff".encode()[offset:]

    pieces = list(transcode("utf-16-le", [Piece(raw[:6], 0, 6), Piece(raw[6:], 6, len(raw))], at_start=True))
    assert [piece.restart_byte for piece in pieces] == [None, 6]


@pytest.mark.parametrize("tail", [b"a", b"\x3d\xd8", b"\x3d\xd8\x00"])
def test_a_text_that_ends_within_a_character(tail: bytes) -> None:
    for chunk in (1, 2, 3, 100):
        text = whole(source_of("é\n".encode("utf-16-le") + tail, None, "utf-16-le", chunk=chunk))
        assert text.startswith("é\n".encode())
        with pytest.raises(UnicodeDecodeError):
            text.decode()


def test_as_text_leaves_plain_text_alone() -> None:
    raw = MemorySource(BODY)
    assert as_text(raw) == (raw, TextFormat())
    assert as_text(raw, encoding="us-ascii") == (raw, TextFormat())


@pytest.mark.parametrize("codec", [None, *CODECS])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_as_text_finds_out_by_itself_what_can_be_found_out(codec: str | None, encoding: str) -> None:
    plain = MARKS.get(encoding, b"") + "id,näme\n1,é\n".encode(encoding)
    raw = MemorySource(compressed(codec, [plain]) if codec else plain)
    told = None if encoding == "utf-8" or encoding in MARKS else encoding

    source, text_format = as_text(raw, encoding=told)

    assert text_format == TextFormat(codec, encoding)
    assert b"".join(source.read_from(0)) == "id,näme\n1,é\n".encode()


def test_every_name_of_an_encoding_is_one() -> None:
    for name in KNOWN_ENCODINGS:
        source, _ = as_text(MemorySource("id,a\n1,b\n".encode(name)), encoding=name)
        assert b"".join(source.read_from(0)).removeprefix(b"\xef\xbb\xbf") == b"id,a\n1,b\n"


def test_lz4_of_one_block_size_or_another() -> None:
    for block_size in (lz4.frame.BLOCKSIZE_MAX64KB, lz4.frame.BLOCKSIZE_MAX4MB):
        raw = lz4.frame.compress(BODY * 5_000, block_size=block_size, block_linked=False)
        assert whole(source_of(raw, "lz4", chunk=5_000)) == BODY * 5_000
