"""Who the user is to which registry: the client's store of logins in the app's terms, asked off the main thread."""

from __future__ import annotations

import asyncio

from kitepy.client import credentials as store
from kitepy.gui.gateway.failures import told
from kitepy.gui.gateway.port import OperationFailed
from kitepy.gui.gateway.registry_port import LoginsRead
from kitepy.gui.models.reference import DOCKER_HUB
from kitepy.gui.models.registry import Keeper, KeeperChoice, Login, NewLogin

_KEEPERS = {
    store.Place.SESSION: Keeper.SESSION,
    store.Place.SECRET_SERVICE: Keeper.KEYRING,
    store.Place.HELPER: Keeper.HELPER,
    store.Place.DOCKER_CONFIG: Keeper.DOCKER,
}
"""In the order in which the store looks for a login."""
_NOTES = {
    Keeper.SESSION: "Forgotten when Kitepy ends.",
    Keeper.HELPER: "Docker's own commands find it there, too.",
    Keeper.KEYRING: "Kept by the desktop, locked with it.",
}


class Logins:
    def __init__(self, credentials: store.CredentialStore | None = None) -> None:
        self._store = credentials or store.CredentialStore()
        self._notes: dict[str, tuple[str, ...]] = {}
        """What was in the way of finding or keeping a registry's login the last time."""

    async def authorization(self, host: str) -> str:
        """The value of ``X-Registry-Auth``; empty for nobody. A keeper that can't be asked doesn't stop anything."""
        found = await asyncio.to_thread(self._store.find, host)
        self._notes[host] = found.notes
        return found.credentials.header(host) if found.credentials else ""

    async def read(self) -> LoginsRead:
        with told():
            known, places = await asyncio.gather(
                asyncio.to_thread(self._store.logins), asyncio.to_thread(self._store.places, DOCKER_HUB)
            )
        order = list(_KEEPERS)
        entries = sorted(known.entries, key=lambda entry: (entry.host, order.index(entry.place)))
        logins = tuple(Login(entry.host, entry.username, _KEEPERS[entry.place], entry.helper) for entry in entries)
        keepers = tuple(_choice(each) for each in places)
        notes = dict.fromkeys((*known.notes, *(note for about in self._notes.values() for note in about)))
        return LoginsRead(logins, keepers, tuple(note.rstrip(".") + "." for note in notes))

    async def keep(self, login: NewLogin, identity_token: str) -> None:
        """A token that the registry gives out takes the password's place."""
        place = next(place for place, keeper in _KEEPERS.items() if keeper is login.keeper)
        secret = store.RegistryCredentials(login.user, "" if identity_token else login.password, identity_token)
        with told():
            saved = await asyncio.to_thread(self._store.save, login.host, secret, place)
        self._notes[login.host] = saved.notes

    async def forget(self, host: str) -> None:
        self._notes.pop(host, None)
        with told():
            notes = await asyncio.to_thread(self._store.erase, host)
        if notes:
            raise OperationFailed(f"The login at {host} may still be kept: {'; '.join(notes)}.")


def _choice(choice: store.Choice) -> KeeperChoice:
    keeper = _KEEPERS[choice.place]
    # What a library says behind the first colon helps nobody who only wants to log in.
    return KeeperChoice(keeper, choice.why_not.partition(": ")[0], _NOTES.get(keeper, ""), choice.helper)
