"""JSON bodies become structs as Docker reads them."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.container_config import ContainerCreateBody, ExecCreateBody, PortBinding
from kitepy.engine.server.bodies import decode_body
from kitepy.engine.server.errors import BadRequest


def _create(document: object) -> ContainerCreateBody:
    return decode_body(json.dumps(document).encode(), ContainerCreateBody)


def test_keys_match_in_any_case_at_any_depth() -> None:
    body = _create({"iMaGe": "x", "hostconfig": {"MEMORY": 5, "portBINDINGS": {"80/tcp": [{"hostport": "8"}]}}})
    assert body.image == "x"
    assert body.host_config.memory == 5
    assert body.host_config.port_bindings == {"80/tcp": [PortBinding(host_port="8")]}


def test_keys_of_maps_keep_their_case() -> None:
    assert _create({"labels": {"Image": "x", "image": "y"}}).labels == {"Image": "x", "image": "y"}


def test_null_means_the_default() -> None:
    body = _create({"Tty": None, "Env": None, "HostConfig": None, "ExposedPorts": {"80/tcp": None}, "Labels": {"a": None}})
    assert body == ContainerCreateBody(exposed_ports={"80/tcp": {}}, labels={"a": ""})


def test_a_command_may_be_one_string() -> None:
    assert _create({"Cmd": "true", "Entrypoint": ["sh"]}).cmd == ["true"]
    with pytest.raises(BadRequest, match="into field Cmd"):  # as in Docker, not that of an exec
        decode_body(b'{"Cmd": "id"}', ExecCreateBody)


def test_unknown_fields_are_ignored() -> None:
    assert _create({"Nonsense": {"a": 1}, "Image": "x"}).image == "x"


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b" {} \n"])
def test_an_empty_body_has_the_defaults(data: bytes) -> None:
    assert decode_body(data, ContainerCreateBody) == ContainerCreateBody()


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"hostconfig": {"memory": "5"}}, "HostConfig.Memory"),
        ({"Env": ["a", 1]}, "Env[1]"),
        ({"Tty": 1}, "Tty"),
        ({"HostConfig": {"Memory": 1.5}}, "HostConfig.Memory"),
        ({"HostConfig": {"Ulimits": [{"Soft": True}]}}, "HostConfig.Ulimits[0].Soft"),
        ({"NetworkingConfig": {"EndpointsConfig": {"n": {"Aliases": "x"}}}}, "NetworkingConfig.EndpointsConfig[...].Aliases"),
    ],
)
def test_a_wrong_type_names_its_path(document: object, path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        _create(document)
    assert path in str(caught.value)


def test_what_has_to_be_there_is_missed() -> None:
    for data, required in ((b"", True), (b"  \n", False)):
        with pytest.raises(BadRequest, match="invalid JSON: got EOF while reading request body"):
            decode_body(data, ContainerCreateBody, required=required)


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert decode_body(b'{"Image": "a\xff"}', ContainerCreateBody).image == "a\ufffd"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "invalid JSON: unexpected EOF"),
        (b"{} {}", "unexpected content after JSON"),
        (b"[]", "invalid JSON: cannot unmarshal array into the body, which has to be an object"),
        (b'{"Image":5}', "invalid JSON: cannot unmarshal number into field Image, which has to be a string"),
        (b'{"Cmd":5}', "invalid JSON: cannot unmarshal number into field Cmd, which has to be an array"),
    ],
)
def test_the_message_says_what_is_wrong_in_dockers_words(data: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_body(data, ContainerCreateBody)
    assert str(caught.value) == message


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b'{"a": 1e400}', b"{} {}", b"[]", b'"x"', b"7"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_body(data, ContainerCreateBody)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Image", "cmd", "HOSTCONFIG", "Env", "Mounts", "PortBindings", "80/tcp", "ConsoleSize", "Healthcheck"]
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_document_is_read_or_refused(document: object) -> None:
    with contextlib.suppress(BadRequest):
        _create(document)
