"""An OAuth 2 token endpoint for client credentials, in this process: JWTs, and a file of the key that verifies them."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT_ID, CLIENT_SECRET = "loader-client", "client-secret-for-tests"
SUBJECT, AUDIENCE, ISSUER = "loader", "kafka", "https://idp.test"
HOST = "127.0.0.1"


class TokenServer:
    """`url` is the endpoint's. What it answers can be changed at any time: `claims` to add, `lifetime_s`, `answer`
    (a status and a body in place of a token). `issued` and `forms` tell what was asked.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        """certificate: with it, the endpoint is an https one."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.reset()
        server = self
        self.forms: list[dict[str, list[str]]] = []
        self._refusals = threading.Semaphore(0)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, body, headers = server._respond(self)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer((HOST, 0), Handler)
        self._http.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://{HOST}:{self._http.server_address[1]}/oauth2/token"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        self.claims: dict[str, Any] = {}
        self.lifetime_s = 600
        self.answer: tuple[int, bytes, dict[str, str]] | None = None
        self.issued: list[str] = []

    def wait_for_refusals(self, count: int) -> None:
        """Until `answer` was given so many times."""
        for _ in range(count):
            assert self._refusals.acquire(timeout=30)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write_jwks(self, path: Path) -> Path:
        numbers = self._key.public_key().public_numbers()
        n, e = (_base64(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e))
        path.write_text(
            json.dumps({"keys": [{"kty": "RSA", "kid": "k", "alg": "RS256", "use": "sig", "n": n, "e": e}]})
        )
        return path

    def _respond(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes, dict[str, str]]:
        form = request.rfile.read(int(request.headers["Content-Length"])).decode()
        self.forms.append(parse_qs(form))
        if self.answer is not None:
            self._refusals.release()
            return self.answer
        wanted = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers["Authorization"] != wanted:
            given = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
            refusal = {"error": "invalid_client", "error_description": f"{given} is not known"}  # some repeat it
            return 401, json.dumps(refusal).encode(), {}
        token = self.sign()
        self.issued.append(token)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s}
        return 200, json.dumps(answer).encode(), {}

    def sign(self) -> str:
        now = int(time.time())
        claims = {"sub": SUBJECT, "aud": AUDIENCE, "iss": ISSUER, "scope": "produce", "iat": now}
        claims |= {"exp": now + self.lifetime_s} | self.claims
        header = {"alg": "RS256", "typ": "JWT", "kid": "k"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
