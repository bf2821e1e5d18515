"""TLS for the engine's ports: what certificates they show, whom they let in, and contexts that follow renewed files."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.model.errors import InvalidParameter

logger = logging.getLogger(__name__)

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files. Without ``client_ca`` clients need no certificate, so that the port is encrypted but open to everyone."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def verifies_clients(self) -> bool:
        return self.client_ca is not None

    def _all(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *((self.client_ca,) if self.client_ca else ()))

    def fingerprint(self) -> tuple[tuple[int, int, int], ...]:
        """Differs once a file was replaced or written; raises OSError."""
        states = [path.stat() for path in self._all()]
        return tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)


class TlsContexts:
    """The context for new connections; a renewed certificate takes effect with the next of them, without a restart."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises InvalidParameter when the files can't be used."""
        self.files = files
        self._fingerprint = _fingerprint(files)
        self._context = server_context(files)
        if files.key.stat().st_mode & 0o077:
            logger.warning("the private key %s can be read by others; its mode should be 0600", files.key)

    def current(self) -> ssl.SSLContext:
        """The context by the files as they are now, or as they were last usable."""
        try:
            fingerprint = self.files.fingerprint()
        except OSError:
            return self._context  # just being replaced
        if fingerprint != self._fingerprint:
            self._fingerprint = fingerprint
            try:
                self._context = server_context(self.files)
                logger.info("the TLS certificates were read anew")
            except InvalidParameter as error:
                logger.error("the changed TLS files can't be used, the former ones stay in force: %s", error)
        return self._context


def _fingerprint(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    try:
        return files.fingerprint()
    except OSError as error:
        raise InvalidParameter(f"the TLS file {error.filename} can't be read: {error.strerror}") from None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for servers by these files; raises InvalidParameter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # Every connection proves itself anew: a resumed session would outlive a client CA that was replaced.
    context.num_tickets = 0
    context.options |= (
        ssl.OP_NO_TICKET
        | ssl.OP_NO_COMPRESSION
        | ssl.OP_NO_RENEGOTIATION
        | ssl.OP_CIPHER_SERVER_PREFERENCE
        | ssl.OP_SINGLE_ECDH_USE
    )
    try:
        # The callback keeps OpenSSL from asking for a passphrase on a terminal.
        context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"could not load the TLS key pair {files.certificate}, {files.key}: {_reason(error)}") from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise InvalidParameter(f"could not read the CA certificate {files.client_ca}: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_passphrase() -> str:
    raise ValueError("the key is protected by a passphrase, which nobody is there to type")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not valid PEM").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
