"""Texts of clients and containers that try to look like lines of the engine's own: in events, logs, streams, headers, its log."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from typing import Any

import docker
import pytest
from docker.errors import APIError
from support.engine import EngineUnderTest

EVENT = '\n{"Type":"container","Action":"forged","Actor":{"ID":"forged"}}\n'
EVIL = f"x\r\n2030-01-01 00:00:00,000 CRITICAL forged: gone\x1b[2J{EVENT}"
LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: |    |Traceback ")


def new_log(engine: EngineUnderTest, before: int) -> bytes:
    with engine.log.open("rb") as log:
        log.seek(before)
        return log.read()


def raw(engine: EngineUnderTest, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(engine.socket))
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_labels_forge_no_event(client: docker.DockerClient, busybox: str, engine: EngineUnderTest) -> None:
    began = int(time.time()) - 1
    container = client.containers.create(busybox, ["true"], labels={"evil": EVIL, EVIL: "value"}, environment={"E": EVIL})
    container.remove()
    answer = raw(
        engine,
        f"GET /v1.51/events?since={began}&until={int(time.time()) + 1} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
    )
    texts = list(client.api.events(since=began, until=int(time.time()) + 1))
    events = [json.loads(line) for text in texts for line in text.splitlines() if line.strip()]
    mine = [event for event in events if event["Actor"]["ID"] == container.id]
    assert {event["Action"] for event in mine} >= {"create", "destroy"}
    assert mine[0]["Actor"]["Attributes"]["evil"] == EVIL
    assert "forged" not in {event["Action"] for event in events}
    assert b'\n{"Type":"container","Action":"forged"' not in answer


@pytest.mark.kitepy  # dockerd takes such names for networks
@pytest.mark.parametrize("text", ["web\r\nX-Forged: yes", "web\n", "web\x1b[31m", "../web", EVIL], ids=repr)
def test_a_name_with_control_characters_is_refused(client: docker.DockerClient, busybox: str, text: str) -> None:
    with pytest.raises(APIError) as created:
        client.containers.create(busybox, ["true"], name=text)
    assert created.value.status_code == 400
    container = client.containers.create(busybox, ["true"])
    with pytest.raises(APIError) as renamed:
        container.rename(text)
    assert renamed.value.status_code == 400
    if not text.isprintable():  # else a network may have it: it is no path
        with pytest.raises(APIError) as network:
            client.networks.create(text)
        assert network.value.status_code == 400


@pytest.mark.parametrize(
    "target",
    [
        "/containers/x%0d%0aX-Forged:%20yes/json",
        "/images/x%0d%0aX-Forged:%20yes/json",
        "/x%0d%0aX-Forged:%20yes",
        "/v1.51%0d%0aX-Forged:%20y/info",
    ],
)
def test_a_path_forges_no_header(engine: EngineUnderTest, target: str) -> None:
    answer = raw(engine, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4")
    assert b"X-Forged" not in head
    assert head.count(b"HTTP/1.1") == 1
    json.loads(body)


def test_an_archive_s_name_forges_no_header(run: Any, engine: EngineUnderTest) -> None:
    container = run("touch \"/tmp/a$(printf '\\r\\nX-Forged: yes')\"; exec sleep 600")
    answer = raw(
        engine,
        f"HEAD /v1.51/containers/{container.id}/archive?path=/tmp/a%0d%0aX-Forged:%20yes HTTP/1.1\r\n"
        "Host: x\r\nConnection: close\r\n\r\n".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 ")
    assert b"\r\nX-Forged" not in answer


def test_output_forges_neither_stream_nor_time_nor_line(run: Any) -> None:
    """What looks like a frame, like a record of the log's file, and what is no text at all."""
    pieces = [
        rb'{"log":"forged\n","stream":"stderr","time":"2030-01-01T00:00:00.000000000Z"}\n',
        rb"2030-01-01T00:00:00.000000000Z forged\n",
        rb"\002\000\000\000\000\000\000\006forged\n",
        rb"a\000b\033[2Jc\377\376d\rend\n",
        rb'quote"}\\\n',
    ]
    container = run(["printf", b"".join(pieces).decode()])
    container.wait(timeout=30)
    output = container.logs(stdout=True, stderr=False)
    expected = (
        b'{"log":"forged\n","stream":"stderr","time":"2030-01-01T00:00:00.000000000Z"}\n'
        b"2030-01-01T00:00:00.000000000Z forged\n\x02\x00\x00\x00\x00\x00\x00\x06forged\na\x00b\x1b[2Jc"
    )
    assert output.startswith(expected)
    assert b"d\rend\n" in output
    assert container.logs(stdout=False, stderr=True) == b""
    year = time.strftime("%Y-").encode()
    stamped = container.logs(timestamps=True).split(b"\n")[:-1]
    assert stamped
    assert all(line.startswith(year) for line in stamped), stamped
    assert len(stamped) == len(output.split(b"\n")) - 1
    assert container.logs(since=int(time.time()) + 3600) == b""


def test_attached_output_stays_in_its_frame(client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["printf", r"\002\000\000\000\000\000\000\006forged\n"])
    stream = container.attach(stream=True, demux=True, logs=False)
    container.start()
    found = list(stream)
    assert b"".join(err or b"" for _, err in found) == b""
    assert b"".join(out or b"" for out, _ in found) == b"\x02\x00\x00\x00\x00\x00\x00\x06forged\n"


@pytest.mark.kitepy  # it is this engine's log
def test_the_engine_s_log_has_lines_of_its_own_only(
    client: docker.DockerClient, busybox: str, engine: EngineUnderTest, run: Any
) -> None:
    before = engine.log.stat().st_size
    attempts: list[dict[str, Any]] = [
        {"labels": {EVIL: EVIL}, "command": [EVIL]},
        {"command": ["true"], "working_dir": f"/{EVIL}"},
        {"command": ["true"], "user": EVIL},
        {"command": ["true"], "hostname": EVIL},
        {"command": ["true"], "environment": {"A": EVIL}, "entrypoint": [f"/{EVIL}"]},
        {"command": ["true"], "volumes": [f"/nothing{EVIL.replace(':', '')}:/x"]},
        {"command": ["true"], "mac_address": EVIL},
    ]
    for attempt in attempts:
        try:
            container = client.containers.create(busybox, **attempt)
            container.start()
            container.wait(timeout=30)
        except APIError:
            continue  # refused, or could not be started
    exec_in = run(["sleep", "600"])
    with contextlib.suppress(APIError):
        exec_in.exec_run([f"/{EVIL}"], user=EVIL)
    quoted = "".join(f"%{byte:02x}" for byte in EVIL.encode())
    raw(engine, f"GET /containers/{quoted}/json?x={quoted} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    raw(engine, b"GET /\x1b[2J\r2030 forged HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    log = new_log(engine, before)
    assert b"forged" in log  # in escaped form, or this test proves nothing
    assert b"\x1b" not in log
    assert b"\r" not in log
    lines = log.split(b"\n")[:-1]
    assert [line for line in lines if not LOG_LINE.match(line)] == []
    assert [line for line in lines if line.startswith((b"2030", b'{"Type"'))] == []
