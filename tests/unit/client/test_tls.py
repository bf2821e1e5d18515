"""Certificates for an engine that other machines use."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from kitepy.cli import main
from kitepy.client.tls import CertificateDirectory, TlsError, own_hosts

_FILES = {"ca.pem", "cert.pem", "key.pem"}


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> CertificateDirectory:
    directory = CertificateDirectory(tmp_path / "a" / "tls")
    directory.create(["engine.example", "10.1.2.3", "::1"], ["alice", "bob"])
    return directory


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _purposes(path: Path) -> list[x509.ObjectIdentifier]:
    return list(_load(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_folders_are_laid_out_as_docker_cert_path_wants(directory: CertificateDirectory) -> None:
    for folder in (directory.server, directory.client("alice"), directory.client("bob")):
        assert {path.name for path in folder.iterdir()} == _FILES
        certificate = _load(folder / "cert.pem")
        certificate.verify_directly_issued_by(_load(directory.path / "ca.pem"))
        key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
        assert key.public_key() == certificate.public_key()


def test_each_certificate_has_one_purpose(directory: CertificateDirectory) -> None:
    assert _purposes(directory.server / "cert.pem") == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert _purposes(directory.client("bob") / "cert.pem") == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_engines_names_are_in_its_certificate(directory: CertificateDirectory) -> None:
    _, server, alice, bob = directory.list()
    assert server.hosts == ("engine.example", "10.1.2.3", "::1")
    assert (alice.name, bob.name) == ("alice", "bob")
    assert {"localhost", "127.0.0.1", "::1"} <= set(own_hosts())


def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        directory = CertificateDirectory(tmp_path / "tls")
        directory.create(["localhost"], ["alice"])
    finally:
        os.umask(previous)
    for path in (directory.path, *directory.path.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_keys_are_never_readable_by_others_while_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    CertificateDirectory(tmp_path / "tls").create(["localhost"], ["alice"])
    assert modes == [0o600] * 8


def test_what_is_there_is_not_replaced_unasked(directory: CertificateDirectory) -> None:
    before = {path: path.read_bytes() for path in directory.path.rglob("*.pem")}
    with pytest.raises(TlsError, match="--replace"):
        directory.create(["localhost"], ["alice"])
    with pytest.raises(TlsError, match="alice has a certificate already"):
        directory.add_client("alice")
    assert {path: path.read_bytes() for path in directory.path.rglob("*.pem")} == before
    directory.create(["localhost"], ["alice"], replace=True)
    assert (directory.path / "ca.pem").read_bytes() != before[directory.path / "ca.pem"]
    assert not (directory.client("bob") / "key.pem").exists(), "bob's belonged to the former authority"


def test_renewing_keeps_keys_and_names(directory: CertificateDirectory) -> None:
    keys = {path: path.read_bytes() for path in directory.path.rglob("*key.pem")}
    before = {found.path: found for found in directory.list()}
    directory.renew(days=700)
    assert {path: path.read_bytes() for path in directory.path.rglob("*key.pem")} == keys
    for found in directory.list():
        old = before[found.path]
        assert (found.name, found.hosts) == (old.name, old.hosts)
        assert (found.expires > old.expires) == (found.kind != "ca")
    assert _purposes(directory.server / "cert.pem") == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_nothing_outlives_its_authority(directory: CertificateDirectory) -> None:
    with pytest.raises(TlsError, match="the authority itself expires"):
        directory.renew(days=4000)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\nb", "x" * 80])
def test_a_clients_name_cannot_leave_the_directory(directory: CertificateDirectory, name: str) -> None:
    with pytest.raises(TlsError, match="can't be a client's name"):
        directory.add_client(name)


@pytest.mark.parametrize("host", ["a b", "-x", "a/b", "", "fe80::1%eth0", "x\n"])
def test_a_host_must_be_a_name_or_an_address(tmp_path: Path, host: str) -> None:
    with pytest.raises(TlsError, match="neither a host name"):
        CertificateDirectory(tmp_path / "tls").create([host], [])
    assert not (tmp_path / "tls").exists()


def test_a_link_in_place_of_the_directory_or_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tls").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TlsError, match="is not a directory"):
        CertificateDirectory(tmp_path / "tls").create(["localhost"], [])
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "real" / "ca-key.pem").symlink_to(precious)
    CertificateDirectory(tmp_path / "real").create(["localhost"], [])
    assert precious.read_text() == "precious"


def test_a_key_of_another_authority_is_noticed(directory: CertificateDirectory, tmp_path: Path) -> None:
    other = CertificateDirectory(tmp_path / "other")
    other.create(["localhost"], [])
    (other.path / "ca-key.pem").replace(directory.path / "ca-key.pem")
    with pytest.raises(TlsError, match="is not the key of"):
        directory.add_client("carol")


def test_the_command_tells_what_to_set_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "my tls")
    assert main(["tls", "create", "--directory", place, "--host", "engine.example", "--client", "alice"]) == 0
    said = capsys.readouterr().out
    assert f"--tlsverify \\\n    --tlscacert '{place}/server'/ca.pem" in said
    assert f"DOCKER_CERT_PATH='{place}/clients/alice'" in said
    assert "DOCKER_HOST=tcp://engine.example:2376 DOCKER_TLS_VERIFY=1" in said
    assert main(["tls", "client", "bob", "--directory", place, "--days", "10"]) == 0
    assert main(["tls", "list", "--directory", place]) == 0
    listed = capsys.readouterr().out
    assert "server engine for engine.example: until " in listed
    assert "client bob: until " in listed
    assert "renew it soon" in listed
    assert main(["tls", "renew", "--directory", place, "--days", "400"]) == 0
    everything = said + listed + capsys.readouterr().out
    assert "renew it soon" not in everything.removeprefix(said + listed)
    assert "PRIVATE" not in everything
    assert main(["tls", "create", "--directory", place]) == 1
    assert "--replace" in capsys.readouterr().err


def test_an_expired_certificate_makes_the_list_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=20)
    CertificateDirectory(tmp_path / "tls", now=past).create(["localhost"], ["alice"], days=10)
    assert main(["tls", "list", "--directory", str(tmp_path / "tls")]) == 1
    assert capsys.readouterr().out.count("EXPIRED") == 2


def test_a_missing_directory_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tls", "list", "--directory", str(tmp_path / "none")]) == 1
    assert f"{tmp_path}/none/ca.pem can't be read" in capsys.readouterr().err
