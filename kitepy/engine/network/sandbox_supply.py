"""Where containers' sandboxes come from and where their interfaces go: pools, names of interfaces, removal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

from kitepy.engine.kernel.netlink import RouteSocket
from kitepy.engine.network.bridge import owner_prefix
from kitepy.engine.network.kernel_work import KernelWork
from kitepy.engine.network.naming import KernelNames
from kitepy.engine.network.resolver_redirect import prepare_resolver_here
from kitepy.engine.network.sandbox import Sandbox, SandboxPool, build_isolated, build_sandbox, remove_interfaces

logger = logging.getLogger(__name__)


class SandboxSupply:
    """Belongs to one event loop. Every name of an interface is known here from before it exists until after it is gone."""

    def __init__(
        self,
        names: KernelNames,
        work: KernelWork,
        mtu: Callable[[], int],
        make_namespace: Callable[[], int] | None,
        pool_size: int,
    ) -> None:
        self._names = names
        self._work = work
        self._mtu = mtu
        self._make_namespace = make_namespace
        self._owned: set[str] = set()
        self._plain = SandboxPool(self._build, work.threads, size=pool_size)
        self._named = SandboxPool(lambda: self._build(named=True), work.threads, size=pool_size)
        """With sockets for a name service; filled only when there is a network that serves names."""
        self._isolated = SandboxPool(lambda: build_isolated(make_namespace), work.threads, size=1)

    def start(self) -> None:
        """Begin to fill the pools that every engine needs."""
        self._plain.start_refill()
        self._isolated.start_refill()

    def expect_names(self) -> None:
        """There is a network that serves names."""
        self._named.start_refill()

    async def take(self, *, veth: bool, named: bool, plain: bool) -> Sandbox:
        """A sandbox, with a veth pair or without, and ready for a name service or not. Raises OSError.

        ``plain``: its namespace belongs to the engine's user namespace.
        """
        if plain and self._make_namespace is not None:
            return await self._work.run(lambda: self._build(plain=True) if veth else build_isolated())
        if veth:
            return await (self._named if named else self._plain).take()
        return await self._isolated.take()

    def new_veth(self) -> str:
        """A name for the host's end of a new pair."""
        name = self._names.new_veth()
        self._owned.add(name)
        return name

    def own(self, name: str) -> None:
        """An interface that a former engine made is ours."""
        if name:
            self._owned.add(name)

    def disown(self, name: str) -> None:
        """It is gone."""
        self._owned.discard(name)

    def _build(self, *, plain: bool = False, named: bool = False) -> Sandbox:
        """Runs on a thread."""
        name = self.new_veth()
        try:
            return build_sandbox(
                name,
                mtu=self._mtu(),
                make_namespace=None if plain else self._make_namespace,
                prepare_resolver=prepare_resolver_here if named else None,
            )
        except BaseException:
            self.disown(name)
            raise

    async def remove(self, names: Iterable[str]) -> None:
        """Remove interfaces: one after another, so that the kernel's lock is free in between."""
        for name in dict.fromkeys(filter(None, names)):
            try:
                await self._work.run_slowly(lambda name=name: remove_interfaces([name]))  # type: ignore[misc]
            except OSError as error:
                logger.warning("removing interface %s: %s", name, error.strerror or error)
            self.disown(name)

    async def remove_strays(self, networks: Collection[str]) -> None:
        """Remove what a crash left: pairs without a container, bridges of none of these networks."""
        prefix = owner_prefix(self._names)

        def ours() -> list[tuple[str, str]]:
            with RouteSocket() as host:
                return [
                    (link.name, link.alias.removeprefix(prefix) if link.alias.startswith(prefix) else "")
                    for link in host.links()
                    if link.name.startswith(self._names.veth_prefix) or link.alias.startswith(prefix)
                ]

        # The sets are looked at after the listing: they hold every name before the interface exists.
        for name, network_id in await self._work.run(ours):
            if network_id in networks if network_id else name in self._owned:
                continue
            logger.info("removing interface %s, which belongs to no %s", name, "network" if network_id else "container")
            await self.remove([name])

    async def filled(self) -> None:
        """Returns when the refills that are under way have ended."""
        for pool in (self._plain, self._named, self._isolated):
            await pool.filled()

    async def close(self) -> list[Sandbox]:
        """Stop refilling and hand over what is left, for removal."""
        return [sandbox for pool in (self._plain, self._named, self._isolated) for sandbox in await pool.close()]
