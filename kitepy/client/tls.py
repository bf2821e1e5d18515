"""Certificates for an engine that other machines use: an authority of one's own, the engine's certificate, one for each client.

::

    DIRECTORY/            0700, its owner's alone
      ca.pem  ca-key.pem  the authority; its key signs and is needed nowhere else
      server/             ca.pem cert.pem key.pem: what the engine's --tlscacert, --tlscert and --tlskey name
      clients/NAME/       ca.pem cert.pem key.pem: a DOCKER_CERT_PATH; copy it to the machine that is to use the engine

Keys are made with mode 0600 from the first moment and never leave this directory by our hand. A renewed certificate keeps its
key, so that replacing the one file is all that a renewal does, and an engine that reads it meanwhile finds a matching pair.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
DAYS = 365
_LONGEST_VALIDITY_DAYS = 36500
_SKEW = datetime.timedelta(minutes=5)
"""Clocks differ; a certificate is valid from a little before it was made."""
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class TlsError(Exception):
    """The certificates can't be made or read; ``str(error)`` is for the person who asked."""


@dataclass(frozen=True)
class Certificate:
    """One certificate of the directory."""

    kind: str
    """``ca``, ``server`` or ``client``."""
    name: str
    hosts: tuple[str, ...]
    expires: datetime.datetime
    path: Path

    def days_left(self, now: datetime.datetime) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.expires - now).days


def default_directory() -> Path:
    """Where an ordinary user's certificates are kept."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kitepy" / "tls"


def own_hosts() -> list[str]:
    """The names and addresses by which this machine is probably reached, loopback included."""
    name = socket.gethostname()
    found = ["localhost", name, socket.getfqdn(name), "127.0.0.1", "::1"]
    # Connecting a datagram socket sends nothing; the kernel picks the address that it would send from.
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))
            found.append(str(probe.getsockname()[0]))
    return [host for host in dict.fromkeys(found) if _is_host(host)]


class CertificateDirectory:
    """The directory drawn above."""

    def __init__(self, path: Path, *, now: datetime.datetime | None = None) -> None:
        self.path = path
        self._now = now or datetime.datetime.now(datetime.UTC)

    @property
    def server(self) -> Path:
        """The engine's three files."""
        return self.path / "server"

    def client(self, name: str) -> Path:
        """A client's three files; raises TlsError for a name that can't be a directory's."""
        if not _CLIENT_NAME.fullmatch(name):
            raise TlsError(f"{name!r} can't be a client's name: use letters, digits and _ . @ -")
        return self.path / "clients" / name

    # making

    def create(self, hosts: Sequence[str], clients: Sequence[str], days: int = DAYS, *, replace: bool = False) -> None:
        """Make an authority and all certificates anew; what is there already is an error unless it may be replaced."""
        for host in hosts:
            if not _is_host(host):
                raise TlsError(f"{host!r} is neither a host name nor an address")
        directories = [self.client(name) for name in clients]
        if not replace and (self.path / "ca.pem").exists():
            raise TlsError(f"there is an authority in {self.path} already; with --replace all its certificates become useless")
        _check_days(days)
        _make_private(self.path)
        _make_private(self.path / "clients")
        # Certificates of the authority that is replaced are worth nothing any more.
        for stale in self._client_directories():
            if stale not in directories:
                for name in ("ca.pem", "cert.pem", "key.pem"):
                    (stale / name).unlink(missing_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Kitepy CA of {socket.gethostname()}"[:64])])
        authority = _sign_authority(issuer, key, self._now, max(days, CA_DAYS))
        _write(self.path / "ca-key.pem", _key_pem(key))
        _write(self.path / "ca.pem", _certificate_pem(authority))
        self._issue(self.server, "engine", hosts, days, authority, key)
        for client, directory in zip(clients, directories, strict=True):
            self._issue(directory, client, None, days, authority, key)

    def add_client(self, name: str, days: int = DAYS, *, replace: bool = False) -> None:
        """One more client's key and certificate."""
        directory = self.client(name)
        _check_days(days)
        if not replace and (directory / "cert.pem").exists():
            raise TlsError(f"the client {name} has a certificate already; use renew, or --replace for a new key")
        authority, key = self._authority()
        self._issue(directory, name, None, days, authority, key)

    def renew(self, days: int = DAYS) -> list[Certificate]:
        """Extend the engine's and all clients' certificates from today; their keys and names stay."""
        _check_days(days)
        authority, key = self._authority()
        if authority.not_valid_after_utc < self._now + datetime.timedelta(days=days):
            raise TlsError(
                f"the authority itself expires on {authority.not_valid_after_utc:%Y-%m-%d}, before these would: "
                "choose fewer --days, or make a new one with create --replace and hand its ca.pem to all clients"
            )
        for directory in (self.server, *self._client_directories()):
            old = _read_certificate(directory / "cert.pem")
            renewed = _sign(
                old.subject, old.public_key(), _san(old), self._now, days, authority, key, server=directory == self.server
            )
            _write(directory / "cert.pem", _certificate_pem(renewed))
        return [certificate for certificate in self.list() if certificate.kind != "ca"]

    def list(self) -> list[Certificate]:
        """All certificates; raises TlsError when there are none or one can't be read."""
        places = [("ca", self.path / "ca.pem"), ("server", self.server / "cert.pem")]
        places += [("client", directory / "cert.pem") for directory in self._client_directories()]
        return [_describe(kind, path) for kind, path in places]

    def _issue(
        self,
        directory: Path,
        name: str,
        hosts: Sequence[str] | None,
        days: int,
        authority: x509.Certificate,
        authority_key: ec.EllipticCurvePrivateKey,
    ) -> None:
        _make_private(directory)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        san = None if hosts is None else x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)])
        certificate = _sign(subject, key.public_key(), san, self._now, days, authority, authority_key, server=hosts is not None)
        _write(directory / "key.pem", _key_pem(key))
        _write(directory / "cert.pem", _certificate_pem(certificate))
        _write(directory / "ca.pem", _certificate_pem(authority))

    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        certificate = _read_certificate(self.path / "ca.pem")
        try:
            key = serialization.load_pem_private_key(_read(self.path / "ca-key.pem"), password=None)
        except (ValueError, TypeError) as error:
            raise TlsError(f"{self.path / 'ca-key.pem'} is no usable private key: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise TlsError(f"{self.path / 'ca-key.pem'} is not the key of {self.path / 'ca.pem'}")
        return certificate, key

    def _client_directories(self) -> Iterable[Path]:
        clients = self.path / "clients"
        return sorted(path.parent for path in clients.glob("*/cert.pem")) if clients.is_dir() else []


# signing


def _sign_authority(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, days: int) -> x509.Certificate:
    return (
        _builder(name, key.public_key(), name, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _sign(
    subject: x509.Name,
    public_key: object,
    san: x509.SubjectAlternativeName | None,
    now: datetime.datetime,
    days: int,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    *,
    server: bool,
) -> x509.Certificate:
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise TlsError("only certificates with elliptic-curve keys, as made here, can be renewed")
    # One purpose each: the engine's own certificate must not open the engine to who copies it.
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(subject, public_key, authority.subject, authority_key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if san is not None:
        builder = builder.add_extension(san, critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _check_days(days: int) -> None:
    if not 1 <= days <= _LONGEST_VALIDITY_DAYS:
        raise TlsError(f"--days must be from 1 to {_LONGEST_VALIDITY_DAYS}")


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removeprefix("*.").split(".")
        return len(text) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in labels)
    return "%" not in text  # an interface's name has no place in a certificate


# files


def _make_private(directory: Path) -> None:
    """A directory that is ours alone; one that others own or may write to is refused, since they could swap the files."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = directory.lstat()
        if not stat.S_ISDIR(state.st_mode):
            raise TlsError(f"{directory} is not a directory")
        if state.st_uid != os.geteuid():
            raise TlsError(f"{directory} belongs to another user")
        if state.st_mode & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise TlsError(f"{directory} can't be made: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    """Put a file in place as a whole, readable by its owner alone at every moment."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TlsError(f"{path} can't be written: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path} can't be read: {error.strerror}") from None


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise TlsError(f"{path} is no certificate in PEM form") from None


def _san(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _describe(kind: str, path: Path) -> Certificate:
    certificate = _read_certificate(path)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    san = _san(certificate)
    hosts: list[str] = []
    if san is not None:
        hosts = [*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress))]
    return Certificate(kind, str(names[0].value) if names else "", tuple(hosts), certificate.not_valid_after_utc, path)


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
