"""The app with its tray and an engine in memory, as a process of its own: Qt decides once per process which kind of tray it uses.

Prints each call of the engine as a line.
"""

from __future__ import annotations

import sys

import qasync
from support.fake_gateway import FakeGateway

from kitepy.gui.app import Desk, Session, make_application
from kitepy.gui.settings import Settings


class SpokenCalls(list[tuple[str, ...]]):
    def append(self, call: tuple[str, ...]) -> None:
        print(*call, flush=True)
        super().append(call)


async def live(desk: Desk) -> int:
    gateway = FakeGateway(calls=SpokenCalls())
    gateway.add_container("web")
    session = Session(desk, gateway)
    desk.tray.show()
    session.start()
    return await session.ended


def main() -> int:
    app = make_application()
    desk = Desk(app, Settings(sys.argv[1]))
    desk.window.show()
    with qasync.QEventLoop(app) as loop:
        return loop.run_until_complete(live(desk))


if __name__ == "__main__":
    sys.exit(main())
