"""Rules that others remove come back by themselves."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest
from support.bridge_lab import TABLE, BridgeLab, bridge_lab
from support.private_netns import Place, eventually, run_in_private_netns

from kitepy.engine.network.link_rules import LinkException
from kitepy.engine.network.rule_watch import RuleKeeper, RuleWatch
from kitepy.engine.network.rules import MapElement

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


def keeper(lab: BridgeLab, repairs: list[str]) -> RuleKeeper:
    return RuleKeeper(lab.rules, lambda work: asyncio.to_thread(work), lambda: repairs.append("done"))


@pytest.mark.parametrize(
    "harm",
    [
        "flush ruleset",
        f"delete table inet {TABLE}",
        f"flush chain inet {TABLE} forward",
        f"flush map inet {TABLE} any_ports4",
        f"flush set bridge {TABLE} links",
    ],
)
def test_what_another_program_removes_is_put_back(harm: str) -> None:
    async def scenario() -> None:
        with bridge_lab() as lab:
            lab.bridge(1, icc=False)
            web, friend = lab.container(1, 2), lab.container(1, 3)
            server = await web.place.serve(b"web")
            repairs: list[str] = []
            watch = keeper(lab, repairs)
            lab.rules.publish([MapElement("0.0.0.0", "tcp", 8080, web.address, 80)])
            lab.rules.allow_link([LinkException("lab1", friend.port, friend.address, web.port, web.address, "tcp", 80)])
            before = nft("list", "ruleset")
            nft(*harm.split())
            await eventually(lambda: bool(repairs), "repaired")
            assert nft("list", "ruleset") == before
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
            assert (await friend.place.ask(web.address, 80)).startswith(b"web|")
            watch.close()
            server.close()

    run_in_private_netns(scenario)


def test_the_engines_own_changes_and_those_of_other_tables_are_no_harm() -> None:
    async def scenario() -> None:
        with bridge_lab() as lab:
            watch = RuleWatch(TABLE)
            lab.bridge(1)
            element = MapElement("0.0.0.0", "tcp", 8080, "10.1.0.2", 80)
            for change in (
                lambda: lab.rules.publish([element]),
                lambda: lab.rules.withdraw([element]),
                lab.rules.restore,
                lambda: nft("add", "table", "inet", "other"),
                lambda: nft("delete", "table", "inet", "other"),
                lambda: nft("add", "rule", "inet", TABLE, "forward", "accept"),
                lambda: lab.bridge(2),
            ):
                change()
                assert not watch.touched()
            nft("flush", "chain", "inet", TABLE, "publish")
            assert watch.touched()
            assert not watch.touched()
            watch.close()

    run_in_private_netns(scenario)
