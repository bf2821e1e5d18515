"""Links where containers may not talk to each other: what passes, over restarts of either end and of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api.containers.conftest import RawApi
from api.networks.conftest import Lab
from support.engine import EngineUnderTest
from support.images import load_busybox

pytestmark = [pytest.mark.root, pytest.mark.kitepy]


@pytest.fixture(name="closed")
def _closed() -> Iterator[EngineUnderTest]:
    with EngineUnderTest("--icc=false") as engine:
        yield engine


@pytest.fixture(name="apart")
def _apart(closed: EngineUnderTest, until: Callable[..., Any]) -> Iterator[Lab]:
    client = closed.docker()
    lab = Lab(RawApi(closed.socket), until, load_busybox(client))
    client.close()
    yield lab
    lab.forget()


def test_links_lead_to_exposed_ports_and_nowhere_else(closed: EngineUnderTest, apart: Lab, until: Callable[..., Any]) -> None:
    api = RawApi(closed.socket)
    both = f"({apart.serve(81, 'hidden')}) & {apart.serve(80, 'shown')}"
    always: dict[str, Any] = {"RestartPolicy": {"Name": "always"}}
    linked = {"Links": [f"{apart.name('z-db')}:data"], **always}
    db = apart.start("z-db", both, ExposedPorts={"80/tcp": {}}, HostConfig=always)
    web = apart.start("a-web", apart.serve(80, "web"), HostConfig=linked, ExposedPorts={"80/tcp": {}})
    stranger = apart.start("stranger")

    def holds() -> None:
        apart.eventually_reaches(web, "data", 80, "shown")
        shut = [(web, db, 81), (db, web, 80), (stranger, db, 80), (web, stranger, 80)]
        reached = apart.together(
            *(lambda way=way: apart.reaches(way[0], apart.address(way[1]), way[2]) for way in shut),
            lambda: apart.sh_status(web, f"ping -c 1 -W 1 {apart.address(db)}")[0] == 0,
        )
        assert reached == [False] * 5

    holds()
    apart.stop(db)
    filler = apart.start("filler", apart.serve(80, "filler"))  # may get the address that the link led to
    assert not apart.reaches(web, apart.address(filler), 80)
    assert api("POST", f"/containers/{db}/start").status == 204
    apart.eventually_reaches(web, "data", 80, "shown")
    assert api("POST", f"/containers/{web}/restart?t=0").status == 204
    closed.kill()
    closed.start()
    holds()
    closed.stop()
    closed.start()  # which starts both, the linked one first
    until(lambda: apart.inspect(web)["State"]["Running"])
    apart.eventually_reaches(web, "data", 80, "shown")
    assert api("DELETE", f"/containers/{web}/data?link=1").status == 204
    assert not apart.reaches(web, apart.address(db), 80)
