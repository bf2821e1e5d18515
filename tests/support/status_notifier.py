"""What a desktop's panel does, without a desktop: a private message bus, a StatusNotifierWatcher on it, and a reader of menus.

Freedesktop's StatusNotifierItem and com.canonical.dbusmenu, as Qt speaks them. jeepney comes with keyring on Linux.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jeepney import DBusAddress, HeaderFields, MessageType, Properties, message_bus, new_method_call, new_method_return
from jeepney.io.blocking import DBusConnection, open_dbus_connection

WATCHER = "org.kde.StatusNotifierWatcher"
_PROPERTIES = {
    "IsStatusNotifierHostRegistered": ("b", True),
    "ProtocolVersion": ("i", 0),
    "RegisteredStatusNotifierItems": ("as", []),
}
_DESCRIPTION = f"""<node><interface name="{WATCHER}">
<method name="RegisterStatusNotifierItem"><arg name="service" type="s" direction="in"/></method>
<method name="RegisterStatusNotifierHost"><arg name="service" type="s" direction="in"/></method>
<property name="IsStatusNotifierHostRegistered" type="b" access="read"/><property name="ProtocolVersion" type="i" access="read"/>
<property name="RegisteredStatusNotifierItems" type="as" access="read"/>
</interface></node>"""


@dataclass(frozen=True)
class Entry:
    number: int
    label: str
    enabled: bool
    children: tuple[Entry, ...]

    def find(self, label: str) -> Entry:
        """The entry below this one whose label begins so; mnemonics don't count."""
        for child in self.children:
            if child.label.replace("_", "").startswith(label):
                return child
        raise LookupError(f"no {label} in {[child.label for child in self.children]}")


class Panel:
    """Answers on the bus from a thread; `items` are the names under which tray icons have registered."""

    def __init__(self, address: str) -> None:
        self.items: list[str] = []
        self._watcher = open_dbus_connection(address)
        self._client = open_dbus_connection(address)
        self._watcher.send_and_get_reply(message_bus.RequestName(WATCHER))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._answer, name="watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)
        self._watcher.close()
        self._client.close()

    def item(self, timeout_s: float = 15) -> str:
        deadline = time.monotonic() + timeout_s
        while not self.items:
            assert time.monotonic() < deadline, "no tray icon registered"
            time.sleep(0.02)
        return self.items[0]

    def property(self, item: str, name: str) -> Any:
        address = DBusAddress("/StatusNotifierItem", item, "org.kde.StatusNotifierItem")
        return self._ask(self._client, Properties(address).get(name))[0][1]

    def activate(self, item: str) -> None:
        """A click with the left button."""
        address = DBusAddress("/StatusNotifierItem", item, "org.kde.StatusNotifierItem")
        self._ask(self._client, new_method_call(address, "Activate", "ii", (0, 0)))

    def menu(self, item: str) -> Entry:
        address = DBusAddress(self.property(item, "Menu"), item, "com.canonical.dbusmenu")
        _, root = self._ask(self._client, new_method_call(address, "GetLayout", "iias", (0, -1, [])))
        return _entry(root)

    def choose(self, item: str, entry: Entry) -> None:
        address = DBusAddress(self.property(item, "Menu"), item, "com.canonical.dbusmenu")
        self._ask(self._client, new_method_call(address, "Event", "isvu", (entry.number, "clicked", ("s", ""), 0)))

    def _ask(self, connection: DBusConnection, message: Any) -> Any:
        reply = connection.send_and_get_reply(message, timeout=10)
        if reply.header.message_type is MessageType.error:
            raise RuntimeError(reply.body)
        return reply.body

    def _answer(self) -> None:
        while not self._ended.is_set():
            try:
                message = self._watcher.receive(timeout=0.1)
            except TimeoutError:
                continue
            if message.header.message_type is not MessageType.method_call:
                continue
            fields = message.header.fields
            member = fields[HeaderFields.member]
            if member == "RegisterStatusNotifierItem":
                service = str(message.body[0])
                self.items.append(fields[HeaderFields.sender] if service.startswith("/") else service)
                reply = new_method_return(message)
            elif member == "Get":
                reply = new_method_return(message, "v", (_PROPERTIES[message.body[1]],))
            elif member == "GetAll":
                reply = new_method_return(message, "a{sv}", (_PROPERTIES,))
            elif member == "Introspect":
                reply = new_method_return(message, "s", (_DESCRIPTION,))
            else:
                reply = new_method_return(message)
            self._watcher.send(reply)


@contextmanager
def panel() -> Iterator[tuple[Panel, str]]:
    """A bus of its own and a panel on it; gives both the panel and the bus's address."""
    bus = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert bus.stdout is not None
        address = bus.stdout.readline().strip()
        started = Panel(address)
        try:
            yield started, address
        finally:
            started.close()
    finally:
        bus.terminate()
        bus.wait(5)


def _entry(layout: Any) -> Entry:
    number, properties, children = layout
    label = properties.get("label", ("s", ""))[1]
    visible = [child for _, child in children if child[1].get("visible", ("b", True))[1]]
    return Entry(number, str(label), bool(properties.get("enabled", ("b", True))[1]), tuple(_entry(child) for child in visible))
