"""Containers that share IPC or processes with others: who may join whom, and what they then have in common."""

from __future__ import annotations

from typing import Any

import pytest
from support.creating import created, output_of, started


@pytest.mark.parametrize("mode", ["shareable", "host"])
def test_shared_memory_and_the_ipc_namespace_are_those_of_the_donor(api: Any, busybox: str, mode: str) -> None:
    script = "echo from-the-donor >/dev/shm/kitepy-shared; readlink /proc/self/ns/ipc >/dev/shm/kitepy-ns; sleep 60"
    donor_body = {"Image": busybox, "Cmd": ["sh", "-c", script], "HostConfig": {"IpcMode": mode}}
    with created(api, donor_body) as donor:
        started(api, donor)
        wait = "for i in $(seq 100); do [ -s /dev/shm/kitepy-ns ] && break; sleep 0.05; done"
        script = f"{wait}; cat /dev/shm/kitepy-shared /dev/shm/kitepy-ns; readlink /proc/self/ns/ipc; rm /dev/shm/kitepy-*"
        body = {"Image": busybox, "Cmd": ["sh", "-c", script], "HostConfig": {"IpcMode": f"container:{donor.id}"}}
        content, of_donor, own = output_of(api, body).split()
    assert content == "from-the-donor"
    assert of_donor == own


@pytest.mark.parametrize("mode", ["private", "none", ""])
def test_a_private_ipc_namespace_cannot_be_joined(api: Any, busybox: str, mode: str) -> None:
    sleep = {"Image": busybox, "Cmd": ["sleep", "60"]}
    with created(api, {**sleep, "HostConfig": {"IpcMode": mode}}) as donor:
        started(api, donor)
        with created(api, {**sleep, "HostConfig": {"IpcMode": f"container:{donor.id}"}}) as made:
            answer = api("POST", f"/containers/{made.id}/start")
    assert answer.status == 400
    assert answer.message == (
        f"failed to join IPC namespace: container {donor.id}: non-shareable IPC "
        "(hint: use IpcMode:shareable for the donor container)"
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("IpcMode", "failed to join IPC namespace: container {id} is not running"),
        ("PidMode", "failed to join PID namespace: container {id} is not running"),
        ("NetworkMode", "cannot join network namespace of a non running container: container {name} is created"),
    ],
)
def test_only_running_containers_can_be_joined(api: Any, busybox: str, option: str, words: str) -> None:
    with created(api, {"Image": busybox, "HostConfig": {"IpcMode": "shareable"}}) as donor:
        name = donor.document["Name"].removeprefix("/")
        with created(api, {"Image": busybox, "HostConfig": {option: f"container:{donor.id}"}}) as made:
            answer = api("POST", f"/containers/{made.id}/start")
    assert answer.status in (409, 500)  # a peer says 500 of processes
    assert words.format(id=donor.id, name=name) in answer.message


def test_processes_of_the_donor_are_seen(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "Cmd": ["sleep", "62"]}) as donor:
        started(api, donor)
        body = {"Image": busybox, "Cmd": ["ps", "-o", "pid,args"], "HostConfig": {"PidMode": f"container:{donor.id[:12]}"}}
        lines = [line.split(None, 1) for line in output_of(api, body).splitlines()]
    assert ["1", "sleep 62"] in lines


@pytest.mark.kitepy
def test_what_a_donor_put_in_place_of_its_shared_memory_is_not_mounted(api: Any, busybox: str) -> None:
    script = "umount /dev/shm && rmdir /dev/shm && ln -s /etc /dev/shm && echo done; sleep 60"
    host = {"IpcMode": "shareable", "CapAdd": ["SYS_ADMIN"], "SecurityOpt": ["apparmor=unconfined"]}
    with created(api, {"Image": busybox, "Cmd": ["sh", "-c", script], "HostConfig": host}) as donor:
        started(api, donor)
        for _ in range(200):
            if b"done" in api("GET", f"/containers/{donor.id}/logs?stdout=1&stderr=1").body:
                break
        else:
            pytest.fail("the donor could not replace its /dev/shm")
        with created(api, {"Image": busybox, "Cmd": ["true"], "HostConfig": {"IpcMode": f"container:{donor.id}"}}) as made:
            answer = api("POST", f"/containers/{made.id}/start")
    assert answer.status == 500
    assert "/dev/shm" in answer.message
