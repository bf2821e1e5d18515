"""Names: changing them, refusing them, finding containers by them."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import docker
import pytest
from docker.errors import NotFound

RULE = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"


@pytest.mark.parametrize("slash", ["", "/", "%2F"])
def test_a_running_container_gets_another_name(api: Any, client: docker.DockerClient, run: Any, events: Any, slash: str) -> None:
    container = run(["sleep", "60"], name="before", labels={"l": "1"})
    assert api("POST", f"/containers/before/rename?name={slash}after").status == 204
    assert client.containers.get("after").id == container.id
    with pytest.raises(NotFound):
        client.containers.get("before")
    container.reload()
    assert container.attrs["Name"] == "/after"
    (told,) = events.attributes(container.id, "rename")
    assert told == {"oldName": "/before", "name": "after", "image": "busybox:latest", "l": "1"}


def test_a_taken_name_is_a_conflict_that_names_the_owner(api: Any, client: docker.DockerClient, busybox: str) -> None:
    owner = client.containers.create(busybox, ["true"], name="taken")
    client.containers.create(busybox, ["true"], name="wants")
    conflict = (
        f'Conflict. The container name "/taken" is already in use by container "{owner.id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    answer = api("POST", "/containers/wants/rename?name=taken")
    assert (answer.status, answer.message) == (409, f"Error when allocating new name: {conflict}")
    answer = api("POST", "/containers/create?name=taken", {"Image": busybox, "Cmd": ["true"]})
    assert (answer.status, answer.message) == (409, conflict)
    owner.rename("given-up")
    assert api("POST", "/containers/wants/rename?name=taken").status == 204


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "Neither old nor new names may be empty"),
        ("same", "Renaming a container with the same name as its current name"),
        ("%2Fsame", "Renaming a container with the same name as its current name"),
        ("x", f"Error when allocating new name: Invalid container name (/x), {RULE}"),
        ("-x", f"Error when allocating new name: Invalid container name (/-x), {RULE}"),
        ("a%2Fb", f"Error when allocating new name: Invalid container name (/a/b), {RULE}"),
        ("%20", f"Error when allocating new name: Invalid container name (/ ), {RULE}"),
        ("gr%C3%BCn", f"Error when allocating new name: Invalid container name (/grün), {RULE}"),
    ],
)
def test_other_names_are_refused(api: Any, client: docker.DockerClient, busybox: str, name: str, words: str) -> None:
    container = client.containers.create(busybox, ["true"], name="same")
    answer = api("POST", f"/containers/same/rename?name={name}")
    assert (answer.status, answer.message) == (400, words)
    container.reload()
    assert container.name == "same"


def test_what_is_not_there_gets_no_name(api: Any) -> None:
    answer = api("POST", "/containers/nobody/rename?name=somebody")
    assert (answer.status, answer.message) == (404, "No such container: nobody")


def test_a_name_beats_the_beginning_of_an_id(api: Any, client: docker.DockerClient, busybox: str) -> None:
    by_id = client.containers.create(busybox, ["true"])
    by_name = client.containers.create(busybox, ["true"], name=by_id.id[:12])
    assert api("GET", f"/containers/{by_id.id[:12]}/json").json["Id"] == by_name.id
    assert api("GET", f"/containers/{by_id.id[:11]}/json").json["Id"] == by_id.id


def test_an_ambiguous_beginning_of_an_id_is_refused(api: Any, client: docker.DockerClient, busybox: str) -> None:
    made = [client.containers.create(busybox, ["true"]).id for _ in range(17)]  # of 16 digits one must begin two
    first = next(digit for digit in "0123456789abcdef" if sum(container_id.startswith(digit) for container_id in made) > 1)
    answer = api("POST", f"/containers/{first}/start")
    assert answer.status in (400, 404)
    assert "multiple IDs found with provided prefix" in answer.message


def test_of_parallel_creates_with_one_name_exactly_one_succeeds(api: Any, client: docker.DockerClient, busybox: str) -> None:
    def create(_: int) -> int:
        return int(api("POST", "/containers/create?name=only-one", {"Image": busybox, "Cmd": ["true"]}).status)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        statuses = sorted(pool.map(create, range(12)))
    assert statuses == [201] + [409] * 11
    client.api.remove_container("only-one")


def test_of_parallel_renames_to_one_name_exactly_one_succeeds(api: Any, client: docker.DockerClient, busybox: str) -> None:
    made = [client.containers.create(busybox, ["true"]).id for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda ref: int(api("POST", f"/containers/{ref}/rename?name=wanted").status), made))
    assert statuses == [204] + [409] * 7


def test_a_name_is_free_again_once_its_container_is_gone(client: docker.DockerClient, busybox: str) -> None:
    for _ in range(3):
        client.containers.create(busybox, ["true"], name="again").remove()
