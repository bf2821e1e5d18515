"""TLS towards registries: the system's authorities, and per registry those and the client certificates of ``certs.d``.

::

    <directory>/<host>[:port]/*.crt    authorities, besides the system's
    <directory>/<host>[:port]/*.cert   our certificates, each with its ``.key``
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from kitepy.engine.model.errors import InvalidParameter


def tls_context(hosts: Iterable[str], directories: Iterable[Path] = (), *, verify: bool) -> ssl.SSLContext:
    """How to speak TLS where the certificates of all ``hosts`` count, and the system's unless ``verify`` is False.

    Raises InvalidParameter for files that can't be used.
    """
    if verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    names = [host for host in dict.fromkeys(hosts) if host not in ("", ".", "..") and "/" not in host]
    for directory in directories:
        for name in names:
            _add(context, directory / name)
    return context


def _add(context: ssl.SSLContext, directory: Path) -> None:
    try:
        names = sorted(path.name for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InvalidParameter(f"open {directory}: {(error.strerror or str(error)).lower()}") from None
    for name in names:
        path = directory / name
        try:
            if name.endswith(".crt"):
                context.load_verify_locations(path)
            elif name.endswith(".cert"):
                key = path.with_suffix(".key")
                if key.name not in names:
                    raise InvalidParameter(
                        f"missing key {key.name} for client certificate {name}. CA certificates must use the extension .crt"
                    )
                context.load_cert_chain(path, key)
            elif name.endswith(".key") and f"{name.removesuffix('.key')}.cert" not in names:
                raise InvalidParameter(f"missing client certificate {name.removesuffix('.key')}.cert for key {name}")
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"the certificate {path} can't be used: {error}") from None
