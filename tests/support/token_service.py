"""A token service of our own beside a real registry: who may do what where, for how long, and every wrong answer."""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.docker_registry import PASSWORD, USER
from support.registry import BASIC

ISSUER, SERVICE = "tests' issuer", "tests' registry"
IDENTITY = "identity-of-anna"


@dataclass(frozen=True)
class Asked:
    """A request for a token."""

    method: str
    scopes: tuple[str, ...]
    user: str
    """Whom the credentials prove; empty for nobody."""
    query: Mapping[str, list[str]]
    form: Mapping[str, list[str]]


@dataclass(frozen=True)
class Wrong:
    """An answer instead of a token."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class TokenService:
    """Use it as a context manager; ``settings`` are what the registry's configuration needs."""

    def __init__(self, *, public: Callable[[str], bool] = lambda _: False, address: str = "127.0.0.1") -> None:
        """``public`` says which repositories everybody may pull; the tests' user may do everything everywhere."""
        self.public = public
        self.asked: list[Asked] = []
        self.expires_in_s = 300
        self.wrong: list[Wrong] = []
        """Given out first, one a request."""
        self._home = tempfile.TemporaryDirectory(prefix="kt-")
        self._key, self._certificate = _key_and_certificate()
        self._bundle = Path(self._home.name) / "bundle.pem"
        self._bundle.write_bytes(_pem(self._certificate))
        self._server = ThreadingHTTPServer((address, 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> TokenService:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        self._home.cleanup()

    @property
    def realm(self) -> str:
        return f"http://{self._server.server_address[0]!s}:{self._server.server_address[1]}/token"

    @property
    def settings(self) -> dict[str, str]:
        """``auth.token`` of a registry that believes this service."""
        return {"realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self._bundle)}

    def token(self, user: str, scopes: tuple[str, ...]) -> str:
        """A token for as much of what is asked for as the user may do."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            wanted = set(actions.split(","))
            granted = wanted if user else wanted & ({"pull"} if kind == "repository" and self.public(name) else set())
            access.append({"type": kind, "name": name, "actions": sorted(granted)})
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(_der(self._certificate)).decode()]}
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "exp": now + max(self.expires_in_s, 60),
            "nbf": now - 60,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        return f"{signed}.{_encoded(_signature(self._key, signed.encode()))}"


def _handler(service: TokenService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            scopes = tuple(query.get("scope", ()))
            authorization = self.headers.get("Authorization", "")
            user = USER if authorization == BASIC else ""
            offline = query.get("offline_token") == ["true"]
            self._answer(Asked("GET", scopes, user, query, {}), known=user != "" or not authorization, offline=offline)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
            scopes = tuple(" ".join(form.get("scope", ())).split())
            known = form.get("refresh_token") == [IDENTITY] or (
                form.get("username") == [USER] and form.get("password") == [PASSWORD]
            )
            self._answer(Asked("POST", scopes, USER if known else "", {}, form), known=known, offline=True)

        def _answer(self, asked: Asked, *, known: bool, offline: bool) -> None:
            service.asked.append(asked)
            if service.wrong:
                wrong = service.wrong.pop(0)
                self._send(wrong.status, wrong.body, wrong.headers)
            elif not known:
                self._send(401, b'{"details": "incorrect username or password"}', {})
            else:
                name = "access_token" if asked.method == "POST" else "token"
                document = {name: service.token(asked.user, asked.scopes), "expires_in": service.expires_in_s}
                if offline and asked.user:
                    document["refresh_token"] = IDENTITY
                self._send(200, json.dumps(document).encode(), {})

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _key_and_certificate() -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _der(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return bytes(certificate.public_bytes(serialization.Encoding.DER))


def _signature(key: Any, data: bytes) -> bytes:
    """As JOSE wants it (RFC 7518, 3.4): both numbers side by side."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    numbers = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return b"".join(number.to_bytes(32, "big") for number in numbers)
