"""The app's state and what events do to it."""

from dataclasses import replace

from kitepy.gui.models.actions import ContainerAction, available, loss_of_removal
from kitepy.gui.models.container import Container, Port, Status, distinct_ports, explain_exit, free_name, preview_port
from kitepy.gui.models.sidebar import Glyph, container_row, rows, state_word
from kitepy.gui.models.state import (
    DISCOVER,
    ActivityEnded,
    ActivityStarted,
    AppState,
    ContainersListed,
    EngineEvent,
    ImagesListed,
    ImagesUnreadable,
    Navigated,
    Page,
    Route,
    Store,
    reduce,
)

WEB = Container("a" * 64, "web", "hello-web", Status.RUNNING, (Port(8080, "tcp", "0.0.0.0", 32768),))
JOB = Container("b" * 64, "job", "busybox", Status.EXITED, exit_code=3)


def listed(*containers: Container) -> AppState:
    return reduce(AppState(), ContainersListed(containers))


def test_a_die_event_changes_the_row_before_the_list_is_read_again() -> None:
    state = reduce(listed(WEB), EngineEvent("container", "die", WEB.id, {"exitCode": "137"}))
    assert state.containers[WEB.id].status is Status.EXITED
    assert state.containers[WEB.id].exit_code == 137


def test_a_start_event_forgets_the_old_exit_code() -> None:
    state = reduce(listed(JOB), EngineEvent("container", "start", JOB.id))
    assert state.containers[JOB.id].status is Status.RUNNING
    assert state.containers[JOB.id].exit_code is None


def test_a_rename_event_changes_the_name() -> None:
    state = reduce(listed(WEB), EngineEvent("container", "rename", WEB.id, {"name": "/site"}))
    assert state.containers[WEB.id].name == "site"


def test_events_of_unknown_containers_change_nothing() -> None:
    state = listed(WEB)
    assert reduce(state, EngineEvent("container", "die", "c" * 64)) is state
    assert reduce(state, EngineEvent("network", "destroy", WEB.id)) is state


def test_a_destroyed_container_takes_its_page_with_it() -> None:
    state = reduce(listed(WEB, JOB), Navigated(Route(Page.CONTAINER, WEB.id)))
    state = reduce(state, EngineEvent("container", "destroy", WEB.id))
    assert state.route == DISCOVER
    assert list(state.containers) == [JOB.id]


def test_the_page_of_a_container_that_is_not_listed_yet_stays_open() -> None:
    state = reduce(listed(JOB), Navigated(Route(Page.CONTAINER, WEB.id)))
    assert reduce(state, ContainersListed((JOB,))).route.key == WEB.id


def test_another_container_s_end_does_not_move_the_user() -> None:
    state = reduce(listed(WEB, JOB), Navigated(Route(Page.CONTAINER, WEB.id)))
    assert reduce(state, ContainersListed((WEB,))).route.key == WEB.id


def test_a_list_that_can_not_be_read_keeps_its_last_content() -> None:
    state = reduce(reduce(AppState(), ImagesListed(())), ImagesUnreadable("The engine doesn't answer."))
    assert state.images_list.loaded
    assert state.images_list.error == "The engine doesn't answer."


def test_the_store_tells_subscribers_only_of_changes() -> None:
    store, seen = Store(), []
    end = store.subscribe(lambda state, previous: seen.append((state, previous)))
    store.dispatch(ContainersListed((WEB,)))
    store.dispatch(ContainersListed((WEB,)))
    end()
    store.dispatch(ContainersListed(()))
    assert len(seen) == 1


def test_what_is_under_way_shows_in_the_row() -> None:
    state = reduce(listed(WEB), ActivityStarted(WEB.id, "Stopping"))
    row = rows(state)[0]
    assert (row.detail, row.glyph) == ("Stopping…", Glyph.BUSY)
    assert rows(reduce(state, ActivityEnded(WEB.id)))[0].glyph is Glyph.RUNNING


def test_rows_are_sorted_by_name_and_filtered_by_every_word() -> None:
    state = listed(WEB, JOB, replace(JOB, id="d" * 64, name="Alpha"))
    assert [row.title for row in rows(state)] == ["Alpha", "job", "web"]
    assert [row.title for row in rows(state, "exited busybox alpha")] == ["Alpha"]
    assert [row.title for row in rows(state, "32768")] == ["web"]
    assert rows(state, "nothing") == ()


def test_a_stopped_container_is_no_failure_but_a_crashed_one_is() -> None:
    assert container_row(replace(JOB, exit_code=143)).glyph is Glyph.STOPPED
    assert container_row(replace(JOB, exit_code=137)).glyph is Glyph.STOPPED
    assert container_row(JOB).glyph is Glyph.FAILED
    assert state_word(JOB) == "Exited (3)"
    assert state_word(replace(JOB, exit_code=0)) == "Stopped"


def test_only_what_makes_sense_can_be_done() -> None:
    assert available(ContainerAction.STOP, WEB)
    assert not available(ContainerAction.START, WEB)
    assert available(ContainerAction.START, JOB)
    assert not available(ContainerAction.KILL, JOB)
    assert not available(ContainerAction.REMOVE, WEB, "Stopping")
    assert available(ContainerAction.KILL, WEB, "Stopping")


def test_removal_says_what_is_lost() -> None:
    assert "killed first" in loss_of_removal(WEB)
    assert "log" in loss_of_removal(JOB)
    assert "killed" not in loss_of_removal(JOB)


def test_the_preview_prefers_ports_that_usually_serve_pages() -> None:
    ports = (Port(5432, "tcp", "", 40000), Port(53, "udp", "", 40001), Port(3000, "tcp", "", 40002), Port(80, "tcp"))
    chosen = preview_port(ports)
    assert chosen is not None
    assert chosen.url == "http://localhost:40002/"
    assert preview_port((Port(53, "udp", "", 40001),)) is None


def test_the_same_port_on_ipv4_and_ipv6_is_shown_once() -> None:
    both = (Port(80, "tcp", "0.0.0.0", 32768), Port(80, "tcp", "::", 32768), Port(80, "tcp", "127.0.0.1", 81))
    assert len(distinct_ports(both)) == 2


def test_an_ipv6_address_is_written_with_brackets() -> None:
    assert Port(80, "tcp", "fd00::1", 8080).address == "[fd00::1]:8080"


def test_names_are_counted_up_when_taken() -> None:
    assert free_name("web", set()) == "web"
    assert free_name("web", {"web", "web-2"}) == "web-3"


def test_exit_codes_are_explained() -> None:
    assert explain_exit(0) == "finished normally"
    assert explain_exit(127) == "its command was not found"
    assert explain_exit(137) == "was ended by SIGKILL"
    assert explain_exit(137, out_of_memory=True) == "was killed because it ran out of memory"
    assert explain_exit(3) == "failed with exit code 3"
