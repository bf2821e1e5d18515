"""Registries: resolving, pulling and pushing images."""
