"""PostgreSQL as a child of the server: found, initialised, started, watched, stopped.

What holds: no TCP port; SCRAM on a socket in a 0700 directory; it dies with us, however we die; a start after
`kill -9`
recovers; never root, no user created, no mode of a foreign directory changed. Why:
docs/decisions/0001-embedded-postgres.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, Final

from yggdrasil.db.address import PORT_DEFAULT, SOCKET_PATH_BYTES_MAX, Address, Login
from yggdrasil.db.binaries import (
    RunAs,
    binary_major,
    can_traverse,
    choose_user,
    find_binaries,
    readable_binaries,
    shared_root,
)
from yggdrasil.db.process import POLL_SECONDS, SPAWNER, clear_stale, tail, take_lock
from yggdrasil.errors import ConfigurationError, Unavailable

SUPERUSER: Final = "postgres"
START_SECONDS_MAX: Final = 300.0
"""Generous: recovery after a crash replays the log, and a busy machine takes its time."""
INIT_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 30.0
LOG_BYTES_MAX: Final = 8 * 1024 * 1024
START_ATTEMPTS_MAX: Final = 5
CONNECTIONS_MAX: Final = 80

LOCK_FILE: Final = "postgres.lock"
SOCKET_RECORD: Final = "postgres.socket"

_SPAWN: Final = Path(__file__).with_name("_spawn.py")


class EmbeddedPostgres:
    """One PostgreSQL for one directory. `start`, `stop` block; `ensure_running` is for the event loop.

    `directory` is ours; PostgreSQL's files lie in `directory/postgres`, or, where its user cannot reach that,
    in a
    directory of its own named in `directory/postgres.location`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        password: str,
        pg_bin: Path | None = None,
        durable: bool = True,
        connections_max: int = CONNECTIONS_MAX,
        start_seconds_max: float = START_SECONDS_MAX,
    ) -> None:
        self.directory = directory.absolute()
        self._password = password
        self._pg_bin = pg_bin
        self._durable = durable
        self._connections_max = connections_max
        self._start_seconds_max = start_seconds_max
        self._process: subprocess.Popen[bytes] | None = None
        self._lock_file: IO[str] | None = None
        self._home: Path | None = None
        self._socket_dir: Path | None = None
        self._run_as = RunAs(-1, -1)
        self._bin = Path()
        self._mutex = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while we run it."""
        return None if self._process is None else self._process.pid

    @property
    def home(self) -> Path:
        """Where PostgreSQL's files are."""
        if self._home is None:
            raise Unavailable("the embedded database is not started")
        return self._home

    def address(self, database: str = "postgres") -> Address:
        if self._socket_dir is None:
            raise Unavailable("the embedded database is not started")
        return Address(host=str(self._socket_dir), port=PORT_DEFAULT, database=database)

    @property
    def superuser(self) -> Login:
        """For migrations and tools alone."""
        return Login(SUPERUSER, self._password)

    def start(self) -> None:
        """Initialise if need be, start, and wait until it takes connections.

        Errors: ConfigurationError (no binaries, another major version, the directory is in use), Unavailable
        (it did not
        come up; the log's end is in the message).
        """
        with self._mutex:
            self._start()

    async def start_async(self) -> None:
        """`start` without blocking the event loop."""
        await asyncio.to_thread(self.start)

    async def ensure_running(self) -> bool:
        """Restart it if it is gone; True when that was needed. Cheap when it runs: call it in a loop."""
        process = self._process
        if process is not None and process.poll() is None:
            return False
        if self._lock_file is None:
            raise Unavailable("the embedded database is stopped")
        return await asyncio.to_thread(self._restart)

    def _restart(self) -> bool:
        with self._mutex:
            if self._lock_file is None:  # stopped while this call was on its way
                raise Unavailable("the embedded database is stopped")
            return self._start()

    def _start(self) -> bool:
        if self._process is not None and self._process.poll() is None:
            return False
        self._prepare()
        self._launch()
        return True

    def stop(self) -> None:
        """Fast shutdown: open transactions roll back, the log is written out. Safe to call twice."""
        with self._mutex:
            process, self._process = self._process, None
            if process is not None:
                for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                    if process.poll() is not None:
                        break
                    process.send_signal(sign)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(STOP_SECONDS_MAX)
            if self._lock_file is not None:
                self._lock_file.close()  # and with it the flock
                self._lock_file = None
            if self._socket_dir is not None and self._socket_dir.parent != self._home:
                shutil.rmtree(self._socket_dir, ignore_errors=True)

    async def stop_async(self) -> None:
        await asyncio.to_thread(self.stop)

    # -- preparing

    def _prepare(self) -> None:
        if self._lock_file is None:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._lock_file = take_lock(self.directory / LOCK_FILE)
        try:
            self._run_as = choose_user()
            found = find_binaries(self._pg_bin)
            major = binary_major(found)
            self._bin = readable_binaries(found, self._run_as)
            self._home = self._place()
            data = self._home / "data"
            version_file = data / "PG_VERSION"
            if not version_file.exists():
                self._init(data, major)
            present = version_file.read_text().strip()
            if present != str(major):
                raise ConfigurationError(
                    f"data_dir: {data} was written by PostgreSQL {present}, the programs are {major}: "
                    "set YGGDRASIL_PG_BIN to the old ones, or dump there and restore into a new data_dir",
                    field="data_dir",
                )
            if self._socket_dir is None:
                self._socket_dir = self._place_socket()
                _write_whole(self.directory / SOCKET_RECORD, f"{self._socket_dir}\n")
        except BaseException:
            if self._process is None and self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None
            raise

    def _place(self) -> Path:
        """PostgreSQL's own directory, 0700 and owned by its user; the same one at every start."""
        record = self.directory / "postgres.location"
        inside = self.directory / "postgres"
        if record.exists():
            home = Path(record.read_text().strip())
            if not home.is_dir():
                raise ConfigurationError(f"data_dir: {record} names {home}, which is gone", field="data_dir")
            return home
        if inside.exists() or can_traverse(inside, self._run_as):
            home = inside
            home.mkdir(mode=0o700, exist_ok=True)
        else:
            key = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
            home = Path(tempfile.mkdtemp(dir=shared_root(self._run_as), prefix=f"data-{key}-"))
            _write_whole(record, f"{home}\n")
        if not self._run_as.is_self:
            os.chown(home, self._run_as.user_id, self._run_as.group_id)
        return home

    def _place_socket(self) -> Path:
        socket_dir = self.home / "socket"
        if len(f"{socket_dir}/.s.PGSQL.{PORT_DEFAULT}".encode()) > SOCKET_PATH_BYTES_MAX:
            socket_dir = Path(tempfile.mkdtemp(prefix="yggdrasil-", dir="/tmp"))  # random name, 0700
        else:
            socket_dir.mkdir(mode=0o700, exist_ok=True)
        if not self._run_as.is_self:
            os.chown(socket_dir, self._run_as.user_id, self._run_as.group_id)
        return socket_dir

    def _init(self, data: Path, major: int) -> None:
        """initdb into a scratch directory and rename: a half-made cluster is never mistaken for a
        whole one.
        """
        scratch = self.home / "data.new"
        shutil.rmtree(scratch, ignore_errors=True)
        password_file = self.home / "password"
        password_file.unlink(missing_ok=True)
        handle = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w") as out:
                out.write(self._password)
            if not self._run_as.is_self:
                os.chown(password_file, self._run_as.user_id, self._run_as.group_id)
            # The builtin provider sorts alike on every host; before 17 libc's C.UTF-8 comes nearest.
            locale = (
                ["--locale-provider=builtin", "--locale=C.UTF-8"] if major >= 17 else ["--locale=C.UTF-8"]
            )
            command = [str(self._bin / "initdb"), "-D", str(scratch), "-U", SUPERUSER, "--auth=scram-sha-256"]
            command += ["--pwfile", str(password_file), "--encoding=UTF8", "--data-checksums", *locale]
            if not self._durable:
                command.append("--no-sync")
            process = self._spawn(command, subprocess.PIPE)
            try:
                output, _ = process.communicate(timeout=INIT_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise Unavailable(f"initdb took over {INIT_SECONDS_MAX:.0f} s") from None
            if process.returncode != 0:
                raise Unavailable(f"initdb failed: {output.decode(errors='replace')[-800:]}")
        finally:
            password_file.unlink(missing_ok=True)
        scratch.rename(data)

    # -- starting

    def _launch(self) -> None:
        data = self.home / "data"
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            clear_stale(data)
            log_path = self.directory / "postgres.log"
            if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
                log_path.replace(log_path.with_suffix(".log.1"))
            with log_path.open("ab") as log:
                log_path.chmod(0o600)
                self._process = self._spawn(self._server_command(data), log)
            if self._wait_ready(data):
                return
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()
                raise Unavailable(
                    f"PostgreSQL was not ready after {self._start_seconds_max:.0f} s: {tail(log_path)}"
                )
            # It ended by itself. Children of a killed postmaster may still hold its shared memory for a
            # moment.
            if attempt < START_ATTEMPTS_MAX:
                time.sleep(0.1 * 2**attempt)
        self._process = None
        raise Unavailable(f"PostgreSQL did not start: {tail(self.directory / 'postgres.log')}")

    def _server_command(self, data: Path) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_dir).replace(",", "\\,"),
            "unix_socket_permissions": "0700",
            "port": str(PORT_DEFAULT),
            "max_connections": str(self._connections_max),
            "shared_buffers": "64MB",
            "synchronous_commit": "on" if self._durable else "off",
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            "password_encryption": "scram-sha-256",
            # Statements and row values hold personal data: they stay out of the log.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            "log_line_prefix": "%m [%p] ",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        command = [str(self._bin / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _wait_ready(self, data: Path) -> bool:
        """postmaster.pid says `ready` in its eighth line: what pg_ctl looks at."""
        deadline = time.monotonic() + self._start_seconds_max
        process = self._process
        assert process is not None  # noqa: S101
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                lines = (data / "postmaster.pid").read_text().splitlines()
                if len(lines) >= 8 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
                    return True
            time.sleep(POLL_SECONDS)
        return False

    def _spawn(self, command: list[str], output: Any) -> subprocess.Popen[bytes]:
        wrapped = [sys.executable, "-I", "-S", str(_SPAWN), str(os.getpid())]
        wrapped += [str(self._run_as.user_id), str(self._run_as.group_id), *command]

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603  our script, a program we looked up
                wrapped,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                start_new_session=True,  # Ctrl-C in the terminal is for us: we stop it in order
            )

        return SPAWNER.call(spawn)


def running_socket(directory: Path) -> Path | None:
    """The socket directory of the server another process runs on this directory, or None when nobody does."""
    lock = directory.absolute() / LOCK_FILE
    if not lock.exists():
        return None
    try:
        take_lock(lock).close()
    except ConfigurationError:
        with contextlib.suppress(OSError):
            return Path((directory.absolute() / SOCKET_RECORD).read_text().strip())
        raise
    return None


def _write_whole(path: Path, content: str) -> None:
    """All of it or nothing, also when killed in between."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_text(content)
    scratch.replace(path)
