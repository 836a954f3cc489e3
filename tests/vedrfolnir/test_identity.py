"""The identity file: private, whole, and honest about what is wrong with it."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from yggdrasil.errors import ConfigurationError
from yggdrasil.kernel import SystemIds
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile, Session
from yggdrasil.wire.proof import decode_bytes

SESSION = Session(UUID(int=1), UUID(int=2), UUID(int=3), "owner", "refresh-secret", "access-secret", 12.5)


@pytest.fixture
def identity() -> Identity:
    return Identity.new("http://127.0.0.1:8480", "pc", SystemIds())


@pytest.fixture
def file(tmp_path: Path) -> IdentityFile:
    return IdentityFile(tmp_path / "deep" / "device.json")


def test_no_file_is_no_identity(file: IdentityFile) -> None:
    assert file.load() is None


def test_what_is_saved_is_loaded(file: IdentityFile, identity: Identity) -> None:
    full = msgspec.structs.replace(identity, session=SESSION, email="ask@example.org", device=UUID(int=4))
    file.save(full)
    assert file.load() == full


def test_the_file_is_for_its_owner_alone_and_leaves_nothing_beside(
    file: IdentityFile, identity: Identity
) -> None:
    for _ in range(3):
        file.save(identity)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == ["device.json"]


def test_a_failed_save_keeps_the_old_file(
    file: IdentityFile, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save(identity)

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        file.save(msgspec.structs.replace(identity, device_id="other"))
    monkeypatch.undo()
    assert file.load() == identity
    assert [path.name for path in file.path.parent.iterdir()] == ["device.json"]


def test_a_file_others_can_read_is_refused(file: IdentityFile, identity: Identity) -> None:
    file.save(identity)
    file.path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        file.load()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"server_url": "x", "device_key": "short", "device_id": "pc"}',
        b" " * 70_000,
        b"\xff\xfe",
    ],
)
def test_a_broken_file_is_named(file: IdentityFile, content: bytes) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    file.path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"device\.json"):
        file.load()


def test_no_secret_shows_in_a_repr(identity: Identity) -> None:
    text = repr(msgspec.structs.replace(identity, session=SESSION))
    assert identity.device_key not in text
    assert "secret" not in text


def test_signatures_verify_with_the_public_key(identity: Identity) -> None:
    key = Ed25519PublicKey.from_public_bytes(decode_bytes(identity.public_key(), 32, "key"))
    key.verify(decode_bytes(identity.sign(b"message"), 64, "signature"), b"message")


def test_each_device_has_its_own_key(identity: Identity) -> None:
    assert Identity.new("http://x", "pc", SystemIds()).device_key != identity.device_key


def _count_up(path: Path, times: int) -> None:
    file = IdentityFile(path)
    for _ in range(times):
        with file.locked():
            identity = file.load()
            assert identity is not None
            number = int(identity.device_id) + 1
            file.save(msgspec.structs.replace(identity, device_id=str(number)))


def test_processes_change_the_file_one_after_another(file: IdentityFile, identity: Identity) -> None:
    file.save(msgspec.structs.replace(identity, device_id="0"))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count_up, args=(file.path, 40)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    after = file.load()
    assert after is not None
    assert after.device_id == "120"
