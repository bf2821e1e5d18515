"""What a client may ask of a network, field by field as the Engine API v1.51 names it; whether it makes sense is for services."""

from __future__ import annotations

from msgspec import Struct, field

from kitepy.engine.model.container_config import EndpointSettings


class IPAMConfig(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One subnet of a network."""

    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Where a network's addresses come from."""

    driver: str = ""
    config: list[IPAMConfig] | None = None
    options: dict[str, str] | None = None


class ConfigReference(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The network whose configuration another one takes."""

    network: str = ""


class NetworkCreateBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /networks/create``."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = field(default=None, name="EnableIPv6")
    ipam: IPAM | None = field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkConnectBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /networks/{id}/connect``."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnectBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /networks/{id}/disconnect``."""

    container: str = ""
    force: bool = False
