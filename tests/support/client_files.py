"""The client.properties of docs/CONNECTING.md, made to fit the tests' broker."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.secured_broker import PASSWORD, USER, SecuredBroker
from tests.support.token_server import CLIENT_ID, CLIENT_SECRET

PAGE = Path(__file__).resolve().parents[2] / "docs/CONNECTING.md"
KEY_PASSWORD = "key-password-for-tests"
SECRETS = (PASSWORD, KEY_PASSWORD, CLIENT_SECRET)
# Heading -> the listener that is meant for it.
DOORS = {
    "TLS": "TLS",
    "Mutual TLS": "MUTUAL",
    "User and password: PLAIN": "LOGIN",
    "User and password: SCRAM": "LOGIN",
    "OAuth: OAUTHBEARER": "TOKEN",
    "Amazon MSK with IAM: AWS_MSK_IAM": "TOKEN",
}


def documented(heading: str, secured: SecuredBroker) -> str:
    """The file under this heading, with our addresses, files, users and secrets in place of the examples."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    block = re.search(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert block, heading
    text = re.sub(r"^    ", "", block[0], flags=re.MULTILINE)
    authority = secured.authority
    examples = {
        "broker-1.example.com:9093": secured.addresses[DOORS[heading]],
        "/etc/csv2kafka/ca.pem": str(authority.ca),
        "/etc/csv2kafka/loader.pem": str(authority.issue(USER, password=KEY_PASSWORD.encode())),
        "https://idp.example.com/oauth2/token": secured.tokens.url,
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "KEY_PASSWORD": KEY_PASSWORD,
        '"PASSWORD"': f'"{PASSWORD}"',
        '"USER"': f'"{USER}"',
    }
    for example, ours in examples.items():
        text = text.replace(example, ours)
    return text
