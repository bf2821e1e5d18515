"""Runs the commands of builds: a container that nobody lists, on the root file system that the builder gives."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec

from kitepy.engine.builder.steps import RunStep, StepMount, StepOutput
from kitepy.engine.model.container import ContainerRecord, MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerConfig, HostConfig, LogConfig, NetworkingConfig, Ulimit
from kitepy.engine.model.errors import Conflict
from kitepy.engine.model.ids import short_id
from kitepy.engine.runtime.client import RunningContainer, Runtime
from kitepy.engine.runtime.streams import AttachStream, AttachWish
from kitepy.engine.services import container_request as request_rules
from kitepy.engine.services.container_launch import ContainerLauncher, PidOf
from kitepy.engine.services.remapping import check_user_namespace
from kitepy.engine.services.request_networking import wanted_endpoints

SIGKILL = 9
_PATIENCE_S = 30.0


class Steps:
    """Satisfies ``builder.steps.StepRunner``."""

    def __init__(
        self, *, runtime: Runtime, launcher: ContainerLauncher, pid_of: PidOf, default_ulimits: tuple[Ulimit, ...] = ()
    ) -> None:
        self._runtime = runtime
        self._launcher = launcher
        self._pid_of = pid_of
        self._default_ulimits = default_ulimits

    async def run(self, step: RunStep, output: StepOutput) -> int:
        """Run to the end; cancelling kills the command and waits until it is gone."""
        record = step_record(step, self._default_ulimits)
        check_user_namespace(record.host_config, remapped=self._launcher.remapped)
        async with AsyncExitStack() as stack:
            bundle = self._launcher.bundle(step.id)
            bundle.mkdir(mode=0o700, parents=True)
            stack.push_async_callback(self._launcher.remove_bundle, step.id)
            sandbox = await self._launcher.enter_network(record, self._pid_of, stack)
            request = self._launcher.request(
                replace(record, endpoints=sandbox.endpoints, networks=sandbox.networks),
                sandbox.netns_fd,
                self._pid_of,
                root=step.root,
                directory=bundle,
            )
            running = await self._runtime.start(request, [AttachWish(stdin=False)])
            stack.push_async_callback(_end, running)
            (stream,) = running.attached
            await _forward(stream, output)
            return (await asyncio.shield(running.exited)).code


async def _forward(stream: AttachStream, output: StepOutput) -> None:
    try:
        while (piece := await stream.read()) is not None:
            await output(int(piece[0]), piece[1])
    finally:
        await stream.close()


async def _end(running: RunningContainer) -> None:
    """Kill what still runs; the overlay is unmounted when the last process is gone."""
    if running.exited.done():
        return
    with contextlib.suppress(Conflict):  # it is just ending
        await running.signal(SIGKILL)
    await asyncio.wait_for(asyncio.shield(running.exited), _PATIENCE_S)


def step_record(step: RunStep, default_ulimits: Sequence[Ulimit] = ()) -> ContainerRecord:
    """The container that a step amounts to; raises InvalidParameter and Unsupported for options that can't be honoured."""
    limits = step.limits
    host = request_rules.fill_host_config(
        HostConfig(
            network_mode=step.network,
            extra_hosts=list(step.extra_hosts),
            shm_size=step.shm_size_bytes,
            cgroup_parent=step.cgroup_parent,
            security_opt=list(step.security_opt),
            memory=limits.memory_bytes,
            memory_swap=limits.memory_swap_bytes,
            cpu_shares=limits.cpu_shares,
            cpu_period=limits.cpu_period,
            cpu_quota=limits.cpu_quota,
            cpuset_cpus=limits.cpuset_cpus,
            cpuset_mems=limits.cpuset_mems,
            ulimits=[msgspec.convert(dict(limit), Ulimit) for limit in limits.ulimits],
            log_config=LogConfig(type="none"),
        ),
        default_ulimits=default_ulimits,
    )
    request_rules.check_host_config(host)
    config = ContainerConfig(env=list(step.env), cmd=list(step.argv), user=step.user, working_dir=step.working_dir)
    networks, _ = wanted_endpoints(config, host, NetworkingConfig())
    return ContainerRecord(
        id=step.id,
        name=f"build-{short_id(step.id)}",
        created_ns=time.time_ns(),
        image_id="",
        image_reference="",
        config=config,
        host_config=host,
        platform="linux",
        layers=(),
        mounts=tuple(_mount_point(mount) for mount in step.mounts),
        networks=networks,
    )


def _mount_point(mount: StepMount) -> MountPoint:
    if mount.source is None:
        options = (f"size={mount.size_bytes}",) if mount.size_bytes else ()
        return MountPoint(MountKind.TMPFS, mount.target, copy_up=False, tmpfs_options=options)
    return MountPoint(
        MountKind.BIND,
        mount.target,
        source=str(mount.source),
        read_only=mount.read_only,
        propagation="rprivate",
        copy_up=False,
        engine_owned=True,
    )
