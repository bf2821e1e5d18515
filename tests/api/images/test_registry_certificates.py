"""Registries with TLS that no authority of the system vouches for, and that want certificates of clients."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.docker_registry import DockerRegistry
from support.engine import ROOTLESS, EngineUnderTest
from support.oci import put, unlike_others
from support.registry import make_certificate
from support.transfers import Transfers


def _own_address() -> str:
    """An address of this machine that is none of the loopback, where registries need no certificate."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@pytest.fixture(name="certificates")
def _certificates(engine: EngineUnderTest) -> Iterator[Callable[[str, dict[str, bytes]], None]]:
    """Keep certificates for a registry where the engine looks for them."""
    base = engine.home / ".config" if ROOTLESS else Path("/etc")
    made: list[Path] = []

    def keep(host: str, files: dict[str, bytes]) -> None:
        directory = base / "docker" / "certs.d" / host
        for parent in (*reversed(directory.parents), directory):
            if not parent.exists():
                parent.mkdir()
                made.append(parent)
        for name, content in files.items():
            (directory / name).write_bytes(content)

    yield keep
    for directory in reversed(made):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


@pytest.mark.kitepy  # a peer may have no other address than the loopback's
def test_a_registry_is_trusted_and_known_by_certificates_of_its_folder(
    transfers: Transfers, certificates: Callable[[str, dict[str, bytes]], None], tmp_path: Path
) -> None:
    address = _own_address()
    authority, own = make_certificate(tmp_path, address)
    image = unlike_others("certificates", layers=1)
    with DockerRegistry(certificate=own, clients=authority, address=address) as registry:
        put(registry, "tls/image", "1", image)
        name = f"{registry.host}/tls/image:1"
        unknown = transfers.pull(name)
        assert unknown.status == 500
        assert "x509: certificate signed by unknown authority" in unknown.error
        certificates(registry.host, {"authority.crt": authority.read_bytes()})
        nobody = transfers.pull(name)
        assert nobody.status == 500
        assert "tls: " in nobody.error
        assert "unknown authority" not in nobody.error
        certificates(registry.host, {"us.cert": own.read_bytes()})
        assert "missing key us.key for client certificate us.cert" in transfers.pull(name).error
        certificates(registry.host, {"us.key": own.read_bytes()})
        assert transfers.pull(name).summary == f"Status: Downloaded newer image for {name}"
        assert not transfers.push(f"{registry.host}/tls/image", tag="1").error


@pytest.mark.kitepy
def test_a_registry_elsewhere_is_not_asked_without_tls(transfers: Transfers) -> None:
    with DockerRegistry(address=_own_address()) as registry:
        put(registry, "plain/image", "1", unlike_others("plain", layers=1))
        pulled = transfers.pull(f"{registry.host}/plain/image:1")
        assert pulled.status == 500
        assert "http: server gave HTTP response to HTTPS client" in pulled.error


def test_the_loopback_needs_no_authority(transfers: Transfers, tmp_path: Path) -> None:
    _, own = make_certificate(tmp_path)
    with DockerRegistry(certificate=own) as registry:
        put(registry, "tls/loopback", "1", unlike_others("tls-loopback", layers=1))
        name = f"{registry.host}/tls/loopback:1"
        assert transfers.pull(name).summary == f"Status: Downloaded newer image for {name}"
