"""Use cases, one module per resource: the order of steps, roll-back and events."""
