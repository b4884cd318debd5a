"""How to read an object as text, told by its first bytes and its name: compressed how, in which encoding. No I/O.

What cannot be read as text at all (zip, UTF-32) is refused here, with a way out.
"""

from __future__ import annotations

import codecs
import logging

from csv2kafka.errors import BadData
from csv2kafka.model import TextFormat
from csv2kafka.sources.transcode import ENCODINGS, UTF8, UTF16, encoding_of_mark

log = logging.getLogger(__name__)

SNIFF_BYTES = 16
AUTO, NONE = "auto", "none"  # besides the codecs, what --decompress may say

# Only signatures that no CSV can begin with: "BZh" or "PK" alone may well be a column's name.
_MAGIC = {
    "gzip": (b"\x1f\x8b",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
    "bz2": tuple(b"BZh%d" % level + block for level in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")),
    "xz": (b"\xfd7zXZ\x00",),
    "lz4": (b"\x04\x22\x4d\x18",),
}
_SUFFIXES = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".bgz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
    ".bz": "bz2",
    ".xz": "xz",
    ".lz4": "lz4",
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_SKIPPABLE = tuple(bytes((0x50 + number, 0x2A, 0x4D, 0x18)) for number in range(16))  # zstd's and LZ4's alike
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def codec_of(uri: str, first_bytes: bytes, wanted: str = AUTO) -> str | None:
    """How an object that begins with `first_bytes` (SNIFF_BYTES of them will do) is compressed; None: it is not.

    `wanted` is what --decompress says. Raises BadData for zip, and for another codec than the one wanted.
    """
    if wanted == NONE:
        return None
    named = next((codec for suffix, codec in _SUFFIXES.items() if uri.lower().endswith(suffix)), None)
    found = _by_magic(first_bytes, named)
    if wanted != AUTO:
        if found not in (None, wanted):
            raise BadData(
                f"{uri} is compressed with {found}, not with {wanted}",
                hint=f"say --decompress {found}, or leave --decompress out: the file's first bytes tell",
            )
        return wanted
    if first_bytes.startswith(_ZIP):
        raise BadData(
            f"{uri} is a zip archive, which cannot be loaded",
            hint="download it if it is remote, unpack it (`unzip FILE`), and load the CSV inside, plain or compressed "
            "anew with gzip or zstd",
        )
    if found is None and named is not None and _may_begin(named, first_bytes):
        return named  # cut short within its first bytes: the codec will say so
    if named is not None and found != named:
        log.warning("%s is named like %s, but its first bytes say %s: read as such", uri, named, found or "plain text")
    return found


def _by_magic(first_bytes: bytes, named: str | None) -> str | None:
    for codec, signatures in _MAGIC.items():
        if first_bytes.startswith(signatures):
            return codec
    if first_bytes.startswith(_SKIPPABLE):  # what follows it tells, where that is near enough to be seen
        behind = first_bytes[8 + int.from_bytes(first_bytes[4:8], "little") :]
        return _by_magic(behind, named) or (named if named in ("zstd", "lz4") else "zstd")
    return None


def _may_begin(codec: str, first_bytes: bytes) -> bool:
    return any(signature.startswith(first_bytes) for signature in _MAGIC[codec])


def format_of(uri: str, codec: str | None, first_text: bytes, encoding: str | None) -> TextFormat:
    """The encoding of text that begins with `first_text`. encoding: a name in ENCODINGS that was asked for.

    Raises BadData for UTF-32, for UTF-16 that nothing but its zeros tells, and for what is compressed twice.
    """
    marked = encoding_of_mark(first_text)
    if encoding is not None:
        encoding = ENCODINGS[encoding]
        if encoding == UTF16:
            encoding = marked if marked in ("utf-16-le", "utf-16-be") else "utf-16-le"  # as those who write it do
        return TextFormat(codec, encoding)
    if codec is not None and (twice := _by_magic(first_text, None)):
        raise BadData(
            f"{uri} is compressed twice: with {codec}, and inside with {twice}",
            hint=f"undo the outer one ({codec} -d) and load what comes out",
        )
    if first_text.startswith(_UTF32):
        raise BadData(
            f"{uri} is UTF-32 text, which cannot be loaded",
            hint="convert it first: `iconv -f UTF-32 -t UTF-8 FILE > FILE.utf8.csv`",
        )
    if marked is None and len(first_text) >= 4:
        for half, likely in ((1, "utf-16-le"), (0, "utf-16-be")):
            if not any(first_text[half::2]):
                raise BadData(
                    f"{uri} looks like UTF-16 text without a byte-order mark",
                    hint=f"say --encoding {likely} if it is; --encoding utf-8 if the zeros belong there",
                )
    return TextFormat(codec, marked or UTF8)
