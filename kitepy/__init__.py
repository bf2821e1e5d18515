"""Kitepy: a desktop app for containers that brings its own engine."""

__version__ = "0.1.0"
