"""TLS towards registries: the system's authorities, and per registry those and the client certificates of ``certs.d``.

::

    <directory>/<host>[:port]/*.crt    authorities, besides the system's
    <directory>/<host>[:port]/*.cert   our certificates, each with its ``.key``
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from kitepy.engine.distribution.endpoints import Endpoint
from kitepy.engine.model.errors import InvalidParameter


def tls_context(endpoint: Endpoint, directories: Iterable[Path] = ()) -> ssl.SSLContext:
    """How to speak TLS with an endpoint; raises InvalidParameter for files that can't be used."""
    context = ssl.create_default_context()
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for directory in directories:
        _add(context, directory / endpoint.host)
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
