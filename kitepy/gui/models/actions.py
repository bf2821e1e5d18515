"""What can be done to a container and when; header, menus and tray all take it from here."""

from __future__ import annotations

import enum

from kitepy.gui.models.container import Container, Status


class ContainerAction(enum.Enum):
    """Value: (label, icon, word shown while it is under way)."""

    START = ("Start", "play", "Starting")
    STOP = ("Stop", "stop", "Stopping")
    RESTART = ("Restart", "restart", "Restarting")
    KILL = ("Kill", "kill", "Killing")
    RENAME = ("Rename…", "rename", "Renaming")
    REMOVE = ("Remove…", "trash", "Removing")

    @property
    def label(self) -> str:
        return self.value[0]

    @property
    def icon(self) -> str:
        return self.value[1]

    @property
    def progress(self) -> str:
        return self.value[2]


def available(action: ContainerAction, container: Container, activity: str = "") -> bool:
    """Whether it makes sense now; while something is under way only Kill may cut in."""
    alive = container.status.alive
    if activity:
        return action is ContainerAction.KILL and alive
    match action:
        case ContainerAction.START:
            return container.status in (Status.CREATED, Status.EXITED, Status.DEAD)
        case ContainerAction.STOP | ContainerAction.RESTART | ContainerAction.KILL:
            return alive
        case ContainerAction.RENAME | ContainerAction.REMOVE:
            return container.status is not Status.REMOVING


def loss_of_removal(container: Container) -> str:
    """What is gone afterwards, said before it is done."""
    stopping = "It is running and will be killed first. " if container.status.alive else ""
    return (
        f"{stopping}The files it has written, its anonymous volumes and its log are deleted and can't be brought back. "
        f"Its image {container.image} and named volumes stay."
    )
