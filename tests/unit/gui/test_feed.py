"""Quick changes are gathered: the newest is shown, and others have their turn meanwhile."""

from __future__ import annotations

import asyncio

from kitepy.gui.controllers.feed import Feed


def test_the_newest_of_many_changes_is_shown_and_others_get_their_turn() -> None:
    shown: list[int] = []
    turns = 0

    async def story() -> None:
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        feed: Feed[int] = Feed(shown.append)
        feed.flush()
        assert shown == []  # nothing is new
        beside = asyncio.ensure_future(others())
        for number in range(1000):
            await feed.take(number)
        assert turns > 10
        feed.flush()
        feed.flush()
        beside.cancel()

    asyncio.run(story())
    assert shown[-1] == 999
    assert len(shown) < 100
    assert shown == sorted(set(shown))


def test_a_change_is_shown_by_itself_after_a_moment() -> None:
    async def story() -> None:
        shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await Feed(shown.set_result).take("x")
        assert await asyncio.wait_for(shown, 10) == "x"

    asyncio.run(story())
