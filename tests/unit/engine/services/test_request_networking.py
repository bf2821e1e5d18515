"""What a request may say of its endpoints: what has no effect here is refused, not forgotten."""

from __future__ import annotations

import pytest

from kitepy.engine.model.container_config import EndpointIPAMConfig, EndpointSettings
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.services import request_networking


def check(settings: EndpointSettings) -> None:
    request_networking._check_endpoint("bridge", settings)


def test_options_that_would_change_the_interface_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"com\.docker\.network\.endpoint\.ifname"):
        check(EndpointSettings(driver_opts={"com.docker.network.endpoint.ifname": "lan0"}))
    check(EndpointSettings(driver_opts={"somebody.elses": "option"}))


def test_link_local_addresses_are_refused() -> None:
    with pytest.raises(Unsupported, match="link-local-ip"):
        check(EndpointSettings(ipam_config=EndpointIPAMConfig(link_local_ips=["169.254.1.1"])))
    with pytest.raises(InvalidParameter, match="invalid link-local IP address: here"):
        check(EndpointSettings(ipam_config=EndpointIPAMConfig(link_local_ips=["here"])))
