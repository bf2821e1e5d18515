"""A registry that only knows how to ask who is there: open, with Basic, or with a token service; over TLS or without."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "anna", "s3cret:pass"  # of the double
BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
TOKEN, IDENTITY = "access-token", "identity-token"  # of the double


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, list[str]]
    authorization: str
    form: dict[str, list[str]]


@dataclass
class RegistryDouble:
    """Use it as a context manager; ``seen`` has what was asked."""

    mode: str = "basic"
    """``open``, ``basic`` or ``token``."""
    certificate: Path | None = None
    """A file with certificate and key: then it speaks TLS."""
    realm: str = ""
    """Another token service than its own."""
    token: str = TOKEN
    """What its token service hands out."""
    gives_identity: bool = True
    redirects: Mapping[str, str] = field(default_factory=dict)
    """Location by path."""
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> RegistryDouble:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.host}"


def _handler(double: RegistryDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            authorization = self.headers.get("Authorization", "")
            request = Seen(self.command, parts.path, parse_qs(parts.query), authorization, parse_qs(body))
            double.seen.append(request)
            if parts.path in double.redirects:
                self._answer(307, {}, {"Location": double.redirects[parts.path]})
            elif parts.path == "/token":
                self._token(request)
            elif self._knows(authorization):
                self._answer(200, {})
            else:
                challenge = 'Basic realm="double"'
                if double.mode == "token":
                    realm = double.realm or f"{double.url}/token"
                    challenge = f'Bearer realm="{realm}",service="double"'
                error = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
                self._answer(401, error, {"WWW-Authenticate": challenge})

        def _knows(self, authorization: str) -> bool:
            wanted = {"open": "", "basic": BASIC, "token": f"Bearer {TOKEN}"}[double.mode]
            return double.mode == "open" or authorization == wanted

        def _token(self, request: Seen) -> None:
            if request.authorization == BASIC or request.form.get("refresh_token") == [IDENTITY]:
                document = {"access_token" if request.method == "POST" else "token": double.token}
                if double.gives_identity and "offline_token" in request.query:
                    document["refresh_token"] = IDENTITY
                self._answer(200, document)
            else:
                self._answer(401, {"details": "incorrect username or password"})

        def _answer(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


def make_certificate(directory: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate of an authority of its own for localhost and an address: (the authority, certificate with key)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: str, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("test authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    authority = (
        builder("test authority", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))])
    certificate = builder("localhost", key.public_key()).add_extension(names, critical=False).sign(authority_key, hashes.SHA256())
    encoding = serialization.Encoding.PEM
    authority_file, server_file = directory / "authority.pem", directory / "server.pem"
    authority_file.write_bytes(authority.public_bytes(encoding))
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    server_file.write_bytes(certificate.public_bytes(encoding) + private)
    return authority_file, server_file
