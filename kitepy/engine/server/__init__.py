"""HTTP edge of the engine: routes, streams, validation and the mapping of errors to status codes."""
