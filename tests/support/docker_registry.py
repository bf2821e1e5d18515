"""Debian's ``docker-registry`` on a free loopback port: open, with passwords, with a token service, over TLS; gone at the end."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

USER, PASSWORD = "anna", "s3cret:pass"  # of a registry of the tests
_HASHED = "$2y$04$3iEA13LECQM.2mqQIF4eIOEMZUGYbLmy8bYCrdDuVmeE6olfX23Ye"  # by bcrypt, as htpasswd -B does
_START_S = 15.0


@dataclass(frozen=True)
class Answer:
    """What a registry said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class DockerRegistry:
    """Use it as a context manager. Content is kept in memory, so each starts empty."""

    passwords: bool = False
    """Whether it asks for ``USER`` and ``PASSWORD`` by Basic."""
    certificate: Path | None = None
    """A file with certificate and key: then it speaks TLS."""
    clients: Path | None = None
    """An authority: then it wants a certificate of it from clients."""
    token: Mapping[str, str] | None = None
    """``realm``, ``service``, ``issuer``, ``rootcertbundle`` of a token service: then it asks for tokens."""
    upstream: str = ""
    """The address of a registry that it mirrors."""
    address: str = "127.0.0.1"
    """Where it listens; another one than the loopback's is the certificate's, too."""
    bearer: str = field(default="", init=False)
    """A token that goes with ``ask``."""
    port: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> DockerRegistry:
        program = tool("docker-registry")
        self._home = Path(tempfile.mkdtemp(prefix="kr-"))
        (self._home / "config.yml").write_text(json.dumps(self._configuration()))  # JSON is YAML, too
        with (self._home / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "serve", str(self._home / "config.yml")], stdout=log, stderr=log, cwd="/")
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def host(self) -> str:
        """What stands before an image's name; over TLS by the name that the certificate has."""
        by_name = self.certificate is not None and self.address == "127.0.0.1"
        return f"localhost:{self.port}" if by_name else f"{self.address}:{self.port}"

    @property
    def log(self) -> str:
        return (self._home / "log").read_text(errors="replace")

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """A request of our own, with the password where there is one; header names are written with ``_``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.passwords:
            sent["Authorization"] = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        elif self.bearer:
            sent["Authorization"] = f"Bearer {self.bearer}"
        connection = self._connect()
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def put_blob(self, repository: str, content: bytes, digest: str) -> None:
        """Store a blob in a repository."""
        begun = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert begun.status == 202, begun.body
        location = begun.headers["Location"].partition("/v2/")[2]
        mark = "&" if "?" in location else "?"
        done = self.ask("PUT", f"/v2/{location}{mark}digest={digest}", content, Content_Type="application/octet-stream")
        assert done.status == 201, done.body

    def put_manifest(self, repository: str, reference: str, raw: bytes, media_type: str) -> None:
        """Store a manifest or an index by tag or digest."""
        done = self.ask("PUT", f"/v2/{repository}/manifests/{reference}", raw, Content_Type=media_type)
        assert done.status == 201, done.body

    def manifest(self, repository: str, reference: str) -> Answer:
        """What it has, in whatever format it was written."""
        accept = ", ".join(
            f"application/vnd.{kind}+json"
            for kind in (
                "docker.distribution.manifest.v2",
                "docker.distribution.manifest.list.v2",
                "oci.image.manifest.v1",
                "oci.image.index.v1",
            )
        )
        return self.ask("GET", f"/v2/{repository}/manifests/{reference}", Accept=accept)

    def blob(self, repository: str, digest: str) -> bytes:
        """A blob's content."""
        found = self.ask("GET", f"/v2/{repository}/blobs/{digest}")
        assert found.status == 200, found.body
        return found.body

    def tags(self, repository: str) -> list[str]:
        """All of a repository, sorted; none of one that is not there."""
        found = self.ask("GET", f"/v2/{repository}/tags/list")
        return sorted(found.json["tags"] or ()) if found.status == 200 else []

    def _connect(self) -> http.client.HTTPConnection:
        if self.certificate is None:
            return http.client.HTTPConnection(self.address, self.port, timeout=30)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.clients is not None:
            context.load_cert_chain(self.certificate)
        return http.client.HTTPSConnection(self.address, self.port, timeout=30, context=context)

    def _configuration(self) -> dict[str, Any]:
        server: dict[str, Any] = {"addr": f"{self.address}:0", "secret": "of the tests"}
        if self.certificate is not None:
            server["tls"] = {"certificate": str(self.certificate), "key": str(self.certificate)}
            if self.clients is not None:
                server["tls"]["clientcas"] = [str(self.clients)]
        document: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"inmemory": {}, "delete": {"enabled": True}},
            "http": server,
            # Else it refuses foreign layers, and there would be none to test with.
            "validation": {"manifests": {"urls": {"allow": ["^https?://"]}}},
        }
        if self.passwords:
            (self._home / "htpasswd").write_text(f"{USER}:{_HASHED}\n")
            document["auth"] = {"htpasswd": {"realm": "tests", "path": str(self._home / "htpasswd")}}
        elif self.token is not None:
            document["auth"] = {"token": dict(self.token)}
        if self.upstream:
            document["proxy"] = {"remoteurl": self.upstream}
        return document

    def _wait(self) -> None:
        """Until it listens: it says by itself where."""
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while True:
            found = re.search(r"listening on [0-9.]+:([0-9]+)", self.log)
            if found is not None:
                self.port = int(found[1])
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry doesn't serve: {self.log}")
            time.sleep(0.01)


def tool(name: str) -> str:
    """The path of a program that these tests need. They fail without it: nobody reads what was skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f'"{name}" is missing, and this test needs it: run packaging/install.sh test', pytrace=False)
    return found
