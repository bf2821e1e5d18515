"""Everything a user can want from the pages, as signals; the controllers are connected to these and to nothing else of a view."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal


class Intents(QObject):
    navigate = Signal(object)
    """Route"""
    act = Signal(object, str)
    """ContainerAction, container id"""
    build_paths = Signal(list)
    """Paths as text: dropped, chosen, or handed over by a second start."""
    choose_folder = Signal()
    choose_dockerfile = Signal()
    cancel_build = Signal(str)
    repeat_build = Signal(str)
    dismiss_build = Signal(str)
    run_image = Signal(str)
    remove_image = Signal(str)
    """Image id, or a name of it."""
    tag_image = Signal(str)
    """Image id; the name is asked for."""
    untag_image = Signal(str, str)
    """Image id, name."""
    push_image = Signal(str)
    save_image = Signal(str)
    load_images = Signal()
    prune_images = Signal()
    look_at_layer = Signal(int, bool)
    """Of the image in sight: which, and whether only what it has itself."""
    open_image_folder = Signal(str)
    more_image_files = Signal(str)
    """Path of the folder."""
    create_volume = Signal()
    remove_volume = Signal(str)
    prune_volumes = Signal()
    back_up_volume = Signal(str)
    restore_volume = Signal(str)
    """Into which volume; an empty text means a new one."""
    open_folder = Signal(str, str)
    """Volume, path."""
    preview_file = Signal(str, str, object)
    """Volume, path, FileEntry."""
    save_file = Signal(str, str, bool)
    """Volume, path, whether it is a folder."""
    cancel_job = Signal(str)
    dismiss_job = Signal(str)
    create_network = Signal()
    remove_network = Signal(str)
    connect_container = Signal(str)
    """Network id; which container is asked for."""
    disconnect_container = Signal(str, str)
    """Network id, container id."""
    check_port = Signal(int, str)
    """Port, protocol; port 0 takes the question back."""
    free_port = Signal(str)
    """Id of the container that holds it."""
    search = Signal(str)
    search_again = Signal()
    filter_tags = Signal(str)
    more_tags = Signal()
    list_tags_again = Signal()
    choose_tag = Signal(str)
    choose_platform = Signal(str)
    preview_again = Signal()
    pull = Signal(str, str, bool)
    """Reference, platform (empty for this machine's), whether to run it afterwards."""
    pause_pull = Signal(str)
    resume_pull = Signal(str)
    cancel_pull = Signal(str)
    """Also puts away one that has ended."""
    add_registry = Signal()
    log_in = Signal(str)
    """Host of a registry; who and how is asked for."""
    log_out = Signal(str)
    remove_registry = Signal(str)
    check_registry = Signal(str)
    open_url = Signal(str)
    copy_text = Signal(str, str)
    """Text, and what to call it in the message."""
    retry_engine = Signal()
    open_doctor = Signal()
    check_system = Signal()
    choose_rights = Signal(bool)
    """Whether the engine is to run with administrator rights."""
    refresh = Signal()
    refresh_preview = Signal()
    find = Signal()
    choose_theme = Signal(object)
    show_window = Signal()
    show_container_logs = Signal(str)
    quit = Signal()
