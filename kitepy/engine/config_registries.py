"""Options about image registries: well-formed or refused, in the words of dockerd; standard library only, as ``config``."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:]+)(?::([0-9]+))?")
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
PROXY_KEYS = ("http-proxy", "https-proxy", "no-proxy")


def mirror(value: object) -> str:
    """The base address of a mirror, with a slash at its end; raises ValueError."""
    text = _text(value)
    shown = without_credentials(text)
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ValueError(f"invalid mirror: no scheme specified for \"{shown}\": must use either 'https://' or 'http://'")
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port >= 0
    except ValueError:
        port_fits = False
    if not port_fits or not text.isprintable() or " " in text or not parts.hostname:
        raise ValueError(f'invalid mirror: "{shown}" is not a valid URI')
    if parts.scheme not in ("https", "http"):
        raise ValueError(
            f"invalid mirror: unsupported scheme \"{parts.scheme}\" in \"{shown}\": must use either 'https://' or 'http://'"
        )
    if parts.username is not None:
        raise ValueError(f'invalid mirror: username/password not allowed in URI "{shown}"')
    if "?" in text or "#" in text:
        raise ValueError(f'invalid mirror: query or fragment at end of the URI "{shown}"')
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"


def insecure_registry(value: object) -> str:
    """A host, with its port if that matters, or a network in CIDR notation; raises ValueError."""
    text = _text(value)
    if text.startswith("-") or text.endswith("-"):
        raise ValueError(f"invalid index name ({text}). Cannot begin or end with a hyphen")
    host = re.sub(r"^https?://", "", text, flags=re.IGNORECASE).rstrip("/")
    if "://" in host:
        raise ValueError(f"insecure registry {text} should not contain '://'")
    if "/" in host:
        try:
            return str(ipaddress.ip_network(host, strict=False))
        except ValueError:
            pass  # no network, and then no host either
    found = _HOST.fullmatch(host)
    if found is None:
        raise ValueError(f'insecure registry {text} is not valid: invalid host "{host}"')
    if found[1] and int(found[1]) > 65535:
        raise ValueError(f'insecure registry {text} is not valid: invalid port "{found[1]}"')
    return host


def proxy(value: object) -> str:
    """The address of a proxy, or empty."""
    return _text(value)


def without_credentials(text: str) -> str:
    """An address as it may be shown."""
    return _CREDENTIALS.sub("xxxxx:xxxxx@", text)


def flat(document: dict[str, object]) -> dict[str, object]:
    """A configuration file whose ``proxies`` are keys like all others; raises ValueError."""
    proxies = document.get("proxies")
    if proxies is None:
        return {key: value for key, value in document.items() if key != "proxies"}
    if not isinstance(proxies, dict):
        raise ValueError("invalid value for proxies: expected an object")
    unknown = sorted(key for key in proxies if key not in PROXY_KEYS)
    if unknown:
        raise ValueError(f"the following directives don't match any configuration option: {', '.join(unknown)}")
    return {**{key: value for key, value in document.items() if key != "proxies"}, **proxies}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value
