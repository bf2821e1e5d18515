"""Dockerfile builds: text to instructions to steps to an image."""
