"""The container engine: a daemon that speaks the Docker Engine API and does the kernel work itself."""
