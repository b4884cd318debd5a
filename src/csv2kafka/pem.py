"""Keys and certificates as PEM text, from a file or from a property itself; Java's stores are refused with the way out.

Only labels are looked at here: whether a key fits its certificate is OpenSSL's to say.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from csv2kafka.errors import UsageError

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_JAVA_STORES = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")  # JKS, JCEKS; all others are taken for PKCS12


def read_pem(path: Path, origin: str, *, is_trust: bool) -> str:
    """A PEM file's text. Raises UsageError: not there, or no PEM, with the commands that make one of it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{origin}: {path}: {error.strerror}", hint="check the path") from error
    if b"-----BEGIN " not in content:
        raise UsageError(f"{origin}: {path} is no PEM file", hint=f"convert it: {_conversion(path, content, is_trust)}")
    return content.decode("latin-1")


def _conversion(path: Path, content: bytes, is_trust: bool) -> str:
    store, pem, p12 = (shlex.quote(str(path.with_suffix(end))) for end in (path.suffix, ".pem", ".p12"))
    if is_trust:
        return f"keytool -list -rfc -keystore {store} > {pem}"
    if not content.startswith(_JAVA_STORES):
        return f"openssl pkcs12 -in {store} -out {pem} (the pass phrase it asks for is ssl.key.password)"
    return (
        f"keytool -importkeystore -srckeystore {store} -destkeystore {p12} -deststoretype PKCS12 && "
        f"openssl pkcs12 -in {p12} -out {pem} (the pass phrase it asks for is ssl.key.password)"
    )


def inline_pem(text: str, origin: str) -> str:
    """PEM that stands in a property, where its line ends were lost, with the labels on lines of their own again."""
    blocks = [
        f"-----BEGIN {label}-----\n{body.strip()}\n-----END {label}-----\n" for label, body in _BLOCK.findall(text)
    ]
    if not blocks:
        raise UsageError(
            f"{origin} is no PEM text", hint="it begins with -----BEGIN ...; a path belongs into ssl.*.location"
        )
    return "".join(blocks)


def has_key(pem: str) -> bool:
    return "PRIVATE KEY-----" in pem


def is_encrypted(pem: str) -> bool:
    return "ENCRYPTED" in pem
