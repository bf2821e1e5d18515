from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kitepy.engine.model.errors import Conflict, SystemFailure
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.schema import MIGRATIONS


@pytest.fixture
def database(tmp_path: Path) -> object:
    opened = Database(tmp_path / "state.db")
    yield opened
    opened.close()


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', '1')")
            database.set_meta("b", "1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert database.get_meta("a") is None
    assert database.get_meta("b") is None


def test_values_survive_closing(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    database.set_meta("key", "one")
    database.set_meta("key", "two")
    database.close()
    database.close()
    database = Database(tmp_path / "state.db")
    assert database.get_meta("key") == "two"
    database.close()


@pytest.mark.usefixtures("database")
def test_a_second_engine_is_told_who_has_the_data_root(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=f"in use by another engine \\(pid {os.getpid()}\\)"):
        Database(tmp_path / "state.db")


def test_the_data_root_is_free_again_after_a_kill(tmp_path: Path) -> None:
    program = (
        "import sys, os; from pathlib import Path; from kitepy.engine.storage.database import Database\n"
        "d = Database(Path(sys.argv[1]) / 'state.db'); d.set_meta('k', 'v'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    database = Database(tmp_path / "state.db")
    assert database.get_meta("k") == "v"
    database.close()


def test_a_newer_schema_is_refused_with_advice(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(SystemFailure, match="written by a newer Kitepy"):
        Database(tmp_path / "state.db")
    os.close(os.open(tmp_path / "engine.lock", os.O_RDONLY))
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("PRAGMA user_version=0")
    connection.close()
    Database(tmp_path / "state.db").close()


def test_an_endpoint_of_the_first_schema_is_kept(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.executescript(MIGRATIONS[0] + "PRAGMA user_version=1;")
    for name, endpoint in (("a", {"address": "10.0.0.2", "ports": [{"host_port": 80}]}), ("b", None)):
        record = json.dumps({"id": name, "endpoint": endpoint}).encode()
        connection.execute("INSERT INTO containers VALUES (?, ?, ?)", (name, name, record))
    connection.commit()
    connection.close()
    database = Database(tmp_path / "state.db")
    records = [json.loads(row["record"]) for row in database.query("SELECT record FROM containers ORDER BY id")]
    assert records[0]["endpoints"] == [{"address": "10.0.0.2", "ports": [{"host_port": 80}]}]
    assert not records[1].get("endpoints")
    database.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"x" * 5000)
    with pytest.raises(SystemFailure, match="cannot open the database"):
        Database(tmp_path / "state.db")


def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), database.transaction() as connection:
        connection.execute("INSERT INTO tags VALUES ('a', 'sha256:none')")
