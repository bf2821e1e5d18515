"""The database schema and its migrations; ``database.py`` applies them.

One entry of ``MIGRATIONS`` takes the schema from version n to n + 1. Released entries are never edited: a change is a new
entry. Tables owned by services (containers, networks, volumes, build cache) keep their objects as one JSON record each, since
they are always read whole; images and layers have columns, since they are searched by what they hold.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE layers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        chain_id TEXT UNIQUE,
        diff_id TEXT,
        parent_id INTEGER REFERENCES layers(id),
        size INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL CHECK (state IN ('making', 'ready', 'removing')),
        blob_digest TEXT,
        blob_size INTEGER NOT NULL DEFAULT 0,
        media_type TEXT NOT NULL DEFAULT '',
        -- The boot during which the layer was made, until its files are known to be on disk.
        unsynced_boot TEXT
    );
    CREATE INDEX layers_by_parent ON layers(parent_id);
    CREATE INDEX layers_by_blob ON layers(blob_digest);
    CREATE INDEX layers_by_diff ON layers(diff_id);

    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        config BLOB NOT NULL,
        manifest BLOB,
        top_layer INTEGER REFERENCES layers(id),
        parent_id TEXT,
        size INTEGER NOT NULL,
        created_ns INTEGER NOT NULL,
        added_ns INTEGER NOT NULL,
        last_tag_ns INTEGER
    );
    CREATE INDEX images_by_layer ON images(top_layer);
    CREATE INDEX images_by_parent ON images(parent_id);

    CREATE TABLE tags (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
    );
    CREATE INDEX tags_by_image ON tags(image_id);

    CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record BLOB NOT NULL);
    CREATE TABLE build_cache (key TEXT PRIMARY KEY, value BLOB NOT NULL, used_at INTEGER NOT NULL);
    CREATE INDEX build_cache_by_use ON build_cache(used_at);
    CREATE TABLE volumes (name TEXT PRIMARY KEY, record BLOB NOT NULL);
    CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record BLOB NOT NULL);
    """,
    # A container's one endpoint becomes a list of them.
    """
    UPDATE containers SET record = CAST(
        json_set(CAST(record AS TEXT), '$.endpoints', json_array(json_extract(CAST(record AS TEXT), '$.endpoint'))) AS BLOB
    ) WHERE json_type(CAST(record AS TEXT), '$.endpoint') = 'object';
    """,
    # What networks a container joins is said by its record alone; until now the network mode stood in for an empty list.
    """
    UPDATE containers SET record = CAST(
        json_set(
            CAST(record AS TEXT),
            '$.networks',
            json_object(coalesce(json_extract(CAST(record AS TEXT), '$.host_config.NetworkMode'), 'bridge'), json('{}'))
        ) AS BLOB
    ) WHERE coalesce(json_extract(CAST(record AS TEXT), '$.networks'), '{}') = '{}'
        AND coalesce(json_extract(CAST(record AS TEXT), '$.host_config.NetworkMode'), '') NOT LIKE 'container:%'
        AND NOT coalesce(json_extract(CAST(record AS TEXT), '$.config.NetworkDisabled'), 0);
    """,
    # Where images come from: the digests that registries know them by, the manifests and indexes behind these, and which
    # repositories have which blobs.
    """
    CREATE TABLE repository_digests (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX repository_digests_by_image ON repository_digests(image_id);

    CREATE TABLE manifests (
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        raw BLOB NOT NULL,
        PRIMARY KEY (image_id, digest)
    );
    CREATE INDEX manifests_by_digest ON manifests(digest);

    CREATE TABLE layer_sources (
        digest TEXT NOT NULL,
        repository TEXT NOT NULL,
        PRIMARY KEY (digest, repository)
    ) WITHOUT ROWID;
    """,
    # What plain layers became when they were compressed for a registry. Stays true when the layer goes: it may be built again.
    """
    CREATE TABLE compressed_layers (
        blob TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
)
