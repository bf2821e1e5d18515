"""Route tables, one module per resource of the Engine API."""
