"""Where answers are otherwise than the API's description says: dockerd's own deviations (28.5), and the few that are Kitepy's.

Places are written as in ``support.contract``: a definition's name and the fields on the way, ``[]`` for items and values of maps.
"""

from __future__ import annotations

from typing import Any

Operation = tuple[str, str]

STATUSES: dict[Operation, set[int]] = {
    ("POST", "/containers/{id}/start"): {403, 409},
    ("POST", "/containers/{id}/stop"): {409},
    ("POST", "/containers/{id}/restart"): {409},
    ("POST", "/containers/{id}/pause"): {409},
    ("POST", "/containers/{id}/update"): {409},
    ("POST", "/containers/{id}/resize"): {409},
    ("POST", "/containers/{id}/attach"): {409},
    ("GET", "/containers/{id}/attach/ws"): {409},
    ("GET", "/containers/{id}/logs"): {409, 501},  # a log that can't be read
    ("GET", "/containers/json"): {404},  # a filter that names an unknown container
    ("GET", "/containers/{id}/top"): {409},
    ("GET", "/containers/{id}/stats"): {409},
    ("GET", "/containers/{id}/export"): {409},
    ("GET", "/containers/{id}/changes"): {409},
    ("GET", "/containers/{id}/archive"): {409},
    ("HEAD", "/containers/{id}/archive"): {409},
    ("PUT", "/containers/{id}/archive"): {409},
    ("POST", "/commit"): {409},
    ("POST", "/exec/{id}/start"): {101, 500},
    ("POST", "/exec/{id}/resize"): {409},
    ("POST", "/images/create"): {401, 403, 429},  # the registry's own refusals
    ("GET", "/images/json"): {400, 404},  # filters
    ("GET", "/images/{name}/get"): {400, 404},
    ("GET", "/images/{name}/history"): {400},
    ("GET", "/images/{name}/json"): {400},
    ("GET", "/images/get"): {404},
    ("POST", "/images/{name}/tag"): {200},  # without a repository it does nothing
    ("POST", "/containers/prune"): {409},  # one at a time
    ("POST", "/images/prune"): {409},
    ("POST", "/volumes/prune"): {409},
    ("POST", "/networks/prune"): {409},
    ("POST", "/volumes/create"): {404, 409, 503},
    ("POST", "/networks/create"): {409},
    ("POST", "/networks/{id}/connect"): {400},
    ("POST", "/networks/{id}/disconnect"): {400},
    ("GET", "/networks/{id}"): {400},
    ("POST", "/auth"): {400},  # an address that is none
    ("GET", "/images/search"): {400},  # a registry that is not there
    ("GET", "/distribution/{name}/json"): {400, 403, 404, 429},  # the registry's own refusals
}
"""What dockerd answers besides the documented statuses."""

KITEPY_STATUSES: dict[Operation, set[int]] = {
    ("GET", "/containers/{id}/attach/ws"): {403},  # to web pages of elsewhere
    # What this engine can't do, and says so.
    ("POST", "/containers/create"): {501},
    ("POST", "/containers/{id}/update"): {501},
    ("POST", "/containers/{id}/start"): {501},
    ("POST", "/containers/{id}/pause"): {501},
    ("POST", "/containers/{id}/unpause"): {501},
    ("POST", "/build"): {501},
    ("POST", "/images/create"): {501},
    ("GET", "/containers/{id}/top"): {400, 501},  # options that ps refuses are a mistake of the client; there may be no ps
    ("POST", "/networks/create"): {501},
    ("POST", "/networks/{id}/connect"): {501},
    ("POST", "/networks/{id}/disconnect"): {501},
    ("GET", "/plugins/privileges"): {501},
    ("POST", "/plugins/pull"): {501},
    ("POST", "/plugins/create"): {501},
    ("POST", "/session"): {501},
}
"""What Kitepy answers besides."""

TOO_MUCH = {408, 413, 417, 431}
"""Any operation may say that a request is too large, too slow, or expects what nobody knows."""

MEDIA_TYPES: dict[Operation, set[str]] = {
    ("GET", "/containers/{id}/top"): {"application/json"},
}
"""What answers are of, where it isn't what the description says they are."""

PLAIN_ERRORS: frozenset[Operation] = frozenset({("POST", "/containers/{id}/attach")})
"""Operations that took the connection over before they knew that they must refuse: the error is a line of text."""

STREAMS: dict[Operation, str] = {
    ("GET", "/events"): "EventMessage",
    ("GET", "/containers/{id}/stats"): "ContainerStatsResponse",
    ("POST", "/build"): "BuildInfo",
    ("POST", "/images/create"): "CreateImageInfo",
    ("POST", "/images/load"): "CreateImageInfo",
    ("POST", "/images/{name}/push"): "PushImageInfo",
}
"""Answers that are any number of documents of one definition."""

_HOST_CONFIG_NULLS = (
    *("Binds", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps", "BlkioWeightDevice"),
    *("CapAdd", "CapDrop", "DeviceCgroupRules", "DeviceRequests", "Devices", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts"),
    *("GroupAdd", "Links", "MaskedPaths", "MemorySwappiness", "ReadonlyPaths", "SecurityOpt", "Ulimits", "VolumesFrom"),
)

_BLKIO = (
    *("io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive"),
    *("io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive"),
)

NULLS: frozenset[str] = frozenset(
    {
        *(f"HostConfig.{name}" for name in _HOST_CONFIG_NULLS),
        *(f"ContainerConfig.{name}" for name in ("Entrypoint", "Env", "Labels", "Volumes", "Cmd")),
        *(f"ImageConfig.{name}" for name in ("Entrypoint", "Env", "Labels", "Volumes", "Cmd")),
        *(f"EndpointSettings.{name}" for name in ("Aliases", "DNSNames", "Links")),
        *(f"ContainerBlkioStats.{name}" for name in _BLKIO),
        "ContainerSummary.Labels",
        *(f"DeviceRequest.{name}" for name in ("Capabilities", "DeviceIDs", "Options")),
        "ContainerTopResponse.Processes",
        "ContainerUpdateResponse.Warnings",
        "GenericResources",
        "GET /containers/{id}/changes 200",
        "GET /exec/{id}/json 200.ExitCode",
        *(f"GET /system/df 200.{name}" for name in ("Images", "Containers", "Volumes", "BuildCache")),
        "IPAM.Config",
        "IPAM.Options",
        "ImageHistoryResponseItem.Tags",
        "ImageSummary.Labels",
        "ImageSummary.RepoDigests",
        "ImageSummary.RepoTags",
        "PluginsInfo.Authorization",
        "PortMap",
        "POST /build/prune 200.CachesDeleted",
        "POST /containers/prune 200.ContainersDeleted",
        "POST /images/prune 200.ImagesDeleted",
        "POST /networks/prune 200.NetworksDeleted",
        "RegistryServiceConfig.Mirrors",
        "DistributionInspect.Platforms",
        "SystemInfo.Warnings",
        "Volume.Labels",
        "Volume.Options",
        "VolumeListResponse.Warnings",
    }
)
"""Null although it isn't ``x-nullable``."""

_TEXT = {"type": "string"}
FIELDS: dict[str, dict[str, Any]] = {
    # What old clients know an event by.
    "EventMessage": {"status": _TEXT, "id": _TEXT, "from": _TEXT},
    "CreateImageInfo": {"stream": _TEXT},
    "PushImageInfo": {
        "id": _TEXT,
        "aux": {"type": "object", "properties": {"Tag": _TEXT, "Digest": _TEXT, "Size": {"type": "integer"}}},
    },
    # Kitepy's own: what happens in a build, for the app.
    "BuildInfo": {"kitepy": {"type": "object"}},
}
"""Fields that no definition names, with their schema."""

OPEN: frozenset[str] = frozenset()
"""Objects with any fields."""

NOTHING_REQUIRED: frozenset[str] = frozenset()
"""Objects whose required fields are left out at times."""

OTHER_VALUES: dict[str, dict[str, Any]] = {}
"""Values of other types than the description has."""
