"""Processes: launcher, monitors and the path from an OCI bundle to process 1."""
