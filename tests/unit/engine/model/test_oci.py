from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import (
    EMPTY_LAYER,
    DiffId,
    chain_id,
    chain_ids,
    digest_of,
    parse_image_config,
    parse_image_document,
    parse_index,
    parse_manifest,
)

A, B = DiffId("sha256:" + "a" * 64), DiffId("sha256:" + "b" * 64)


def test_the_chain_id_of_the_lowest_layer_is_its_diff_id() -> None:
    assert chain_id(None, A) == A
    assert chain_ids([A, B]) == (A, digest_of(f"{A} {B}".encode()))
    assert chain_ids([]) == ()


def test_the_empty_layer_is_two_blocks_of_zeros() -> None:
    assert digest_of(bytes(1024)) == EMPTY_LAYER


def test_a_configuration_survives_parsing_and_encoding() -> None:
    document = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "author": "me",
        "config": {
            "User": "app",
            "ExposedPorts": {"80/tcp": {}},
            "Env": ["A=1"],
            "Entrypoint": ["/e"],
            "Cmd": [],
            "Volumes": {"/data": {}},
            "WorkingDir": "/w",
            "Labels": {"k": "v"},
            "StopSignal": "SIGINT",
            "ArgsEscaped": True,
            "OnBuild": ["RUN true"],
            "Healthcheck": {"Test": ["CMD"], "Interval": 5, "Timeout": 6, "StartPeriod": 7, "StartInterval": 8, "Retries": 9},
            "Shell": ["/bin/bash", "-c"],
        },
        "rootfs": {"type": "layers", "diff_ids": [A, B]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "x", "empty_layer": True}],
    }
    parsed = parse_image_document(json.dumps(document).encode())
    assert json.loads(parsed.encode()) == document
    assert parse_image_document(parsed.encode()) == parsed


def test_null_counts_as_absent_and_keys_match_without_regard_to_case() -> None:
    config = parse_image_config({"Cmd": None, "Labels": None, "ExposedPorts": None, "healthcheck": None, "workingdir": "/x"})
    assert config.cmd is None
    assert config.working_dir == "/x"
    assert config.to_json() == {"WorkingDir": "/x"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"config": {"Env": "A=1"}}', "config.Env: expected a list of strings"),
        (b'{"config": {"Env": [1]}}', "config.Env"),
        (b'{"rootfs": {"diff_ids": ["sha256:1"]}}', "rootfs.diff_ids"),
        (b'{"history": [1]}', "history"),
        (b'{"config": {"Healthcheck": {"Retries": true}}}', "Retries: expected a number"),
    ],
)
def test_a_wrong_type_is_refused_naming_the_field(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        parse_image_document(raw)


def test_a_manifest_keeps_the_bytes_its_digest_is_of() -> None:
    raw = b'{"schemaVersion":2,  "config":{"mediaType":"c","size":1,"digest":"%s"},"layers":[]}' % A.encode()
    manifest = parse_manifest(raw)
    assert manifest.descriptor.digest == digest_of(raw)
    assert manifest.config.digest == A


def test_an_index_lists_platforms() -> None:
    entry = {"mediaType": "m", "size": 1, "digest": A, "platform": {"os": "linux", "architecture": "arm64"}}
    index = parse_index(json.dumps({"manifests": [entry]}).encode())
    assert index.manifests[0].platform == {"os": "linux", "architecture": "arm64"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["config", "rootfs", "Env", "history"]), inner),
    max_leaves=10,
)


@given(JSON)
def test_any_json_is_a_configuration_or_refused(document: object) -> None:
    try:
        parsed = parse_image_document(json.dumps(document).encode())
    except InvalidParameter:
        return
    assert parse_image_document(parsed.encode()).diff_ids == parsed.diff_ids
