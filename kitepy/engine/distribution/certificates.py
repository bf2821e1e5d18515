"""TLS towards registries: the system's authorities, and per registry those and the client certificates of ``certs.d``.

::

    <directory>/<host>[:port]/*.crt    authorities, besides the system's
    <directory>/<host>[:port]/*.cert   our certificates, each with its ``.key``
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from kitepy.engine.model.errors import InvalidParameter

_MOST_CONTEXTS = 50


class TlsContexts:
    """Contexts for hosts, made once: reading the system's authorities takes a while. Changed files are noticed."""

    def __init__(self, directories: Iterable[Path] = ()) -> None:
        """``directories`` are as above."""
        self._directories = tuple(directories)
        self._made: OrderedDict[tuple[object, ...], ssl.SSLContext] = OrderedDict()

    def get(self, hosts: Iterable[str], *, verify: bool) -> ssl.SSLContext:
        """How to speak TLS where the certificates of all ``hosts`` count, and the system's unless ``verify`` is False.

        Raises InvalidParameter for files that can't be used.
        """
        names = [host for host in dict.fromkeys(hosts) if host not in ("", ".", "..") and "/" not in host]
        places = [directory / name for directory in self._directories for name in names]
        files = [path for place in places for path in _files(place)]
        key = (verify, *((str(path), *_mark(path)) for path in files))
        if key not in self._made:
            self._made[key] = _make(files, verify)
            if len(self._made) > _MOST_CONTEXTS:
                self._made.popitem(last=False)
        return self._made[key]


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InvalidParameter(f"open {directory}: {(error.strerror or str(error)).lower()}") from None


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _make(files: list[Path], verify: bool) -> ssl.SSLContext:
    if verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in files:
        try:
            _add(context, path, files)
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"the certificate {path} can't be used: {error}") from None
    return context


def _add(context: ssl.SSLContext, path: Path, files: list[Path]) -> None:
    if path.suffix == ".crt":
        context.load_verify_locations(path)
    elif path.suffix == ".cert":
        key = path.with_suffix(".key")
        if key not in files:
            raise InvalidParameter(
                f"missing key {key.name} for client certificate {path.name}. CA certificates must use the extension .crt"
            )
        context.load_cert_chain(path, key)
    elif path.suffix == ".key" and path.with_suffix(".cert") not in files:
        raise InvalidParameter(f"missing client certificate {path.stem}.cert for key {path.name}")
