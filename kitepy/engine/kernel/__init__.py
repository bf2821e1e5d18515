"""Thin synchronous wrappers of kernel interfaces; they raise OSError with call and object."""
