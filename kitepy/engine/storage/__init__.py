"""What lies on disk: blobs, layers, overlay mounts and the state database."""
