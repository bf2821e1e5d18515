"""Running the engine as an ordinary user: it becomes root of a user namespace, and helpers do what must happen outside.

``entry`` is called first thing by the engine's process. ``holder`` makes the namespaces and the process outside,
``outside`` is what that process serves, ``uplink`` its way to the network, ``session`` the engine's connection to it.
"""
