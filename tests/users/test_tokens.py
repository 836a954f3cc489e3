"""Attacks on the token formats, and the formats themselves."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.kernel import Role
from yggdrasil.keys import Key, KeyRing, Keys
from yggdrasil.users import apikeys, codes, tokens
from yggdrasil.users.keys import TokenSecret, UsersKeys

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = int(NOW.timestamp())
USER, NETWORK, SESSION = (UUID(int=number, version=4) for number in (1, 2, 3))
RANDOM = random.Random(7)
RINGS = Keys.generate(RANDOM.randbytes)
KEYS = UsersKeys(RINGS)
ACCESS = tokens.Access(USER, NETWORK, Role.OWNER, SESSION, 0, None, AT, AT + 300)
GOOD = tokens.issue_access(KEYS.current, ACCESS)
CLAIMS = jwt.decode(GOOD, options={"verify_signature": False})
HEADER = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEYS.current.key_id}


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, claims: Any, key: Ed25519PrivateKey | None = None) -> str:
    body = f"{segment(header)}.{segment(claims)}"
    return f"{body}.{segment((key or KEYS.current.signing).sign(body.encode()))}"


def hs256(secret: bytes, kid: str) -> str:
    body = f"{segment({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid})}.{segment(CLAIMS)}"
    return f"{body}.{segment(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"


def attacks() -> dict[str, str]:
    public = KEYS.current.public
    raw, pem = public.public_bytes_raw(), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(32))
    own_jwk = {"kty": "OKP", "crv": "Ed25519", "x": segment(stranger.public_key().public_bytes_raw())}
    head, body, signature = GOOD.split(".")
    twice = b'{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"%s"}' % KEYS.current.key_id.encode()
    found = {
        "none": f"{segment({'alg': 'none', 'typ': 'at+jwt', 'kid': KEYS.current.key_id})}.{body}.",
        "no signature": f"{head}.{body}.",
        "hs256 with the public key": hs256(raw, KEYS.current.key_id),
        "hs256 with the public pem": hs256(pem, KEYS.current.key_id),
        "another key": signed(HEADER, CLAIMS, stranger),
        "own jwk": signed(HEADER | {"jwk": own_jwk}, CLAIMS, stranger),
        "own jwk, our key": signed(HEADER | {"jwk": own_jwk}, CLAIMS),
        "jku": signed(HEADER | {"jku": "https://example.org/keys"}, CLAIMS),
        "crit": signed(HEADER | {"crit": ["x"], "x": 1}, CLAIMS),
        "kid path": signed(HEADER | {"kid": "../../dev/null"}, CLAIMS),
        "kid sql": signed(HEADER | {"kid": "' OR 1=1 --"}, CLAIMS),
        "kid number": signed(HEADER | {"kid": 1}, CLAIMS),
        "kid null": signed(HEADER | {"kid": None}, CLAIMS),
        "no kid": signed({"alg": "EdDSA", "typ": "at+jwt"}, CLAIMS),
        "typ": signed(HEADER | {"typ": "JWT"}, CLAIMS),
        "no typ": signed({"alg": "EdDSA", "kid": KEYS.current.key_id}, CLAIMS),
        "duplicate header name": signed(twice, CLAIMS),
        "header no object": signed(
            [["alg", "EdDSA"], ["typ", "at+jwt"], ["kid", KEYS.current.key_id]], CLAIMS
        ),
        "header deep": f"{segment(b'[' * 400)}.{body}.{signature}",
        "aud": signed(HEADER, CLAIMS | {"aud": "somewhere"}),
        "aud list": signed(HEADER, CLAIMS | {"aud": ["yggdrasil", "somewhere"]}),
        "iss": signed(HEADER, CLAIMS | {"iss": "somebody"}),
        "expired": signed(HEADER, CLAIMS | {"iat": AT - 400, "exp": AT - 100}),
        "expires now": signed(HEADER, CLAIMS | {"iat": AT - 300, "exp": AT}),
        "too long": signed(HEADER, CLAIMS | {"exp": AT + 601}),
        "for ever": signed(HEADER, CLAIMS | {"exp": 2**62}),
        "exp float": signed(HEADER, CLAIMS | {"exp": AT + 300.5}),
        "exp text": signed(HEADER, CLAIMS | {"exp": "soon"}),
        "exp bool": signed(HEADER, CLAIMS | {"exp": True}),
        "role": signed(HEADER, CLAIMS | {"role": "god"}),
        "sub": signed(HEADER, CLAIMS | {"sub": "1"}),
        "extra claim": signed(HEADER, CLAIMS | {"admin": True}),
        "refresh token": tokens.Refresh(USER, SESSION, 1).text(KEYS.current),
        "huge": GOOD + "A" * 10_000_000,
        "no body": f"{head}..{signature}",
        "two parts": f"{head}.{body}",
        "four parts": f"{GOOD}.{signature}",
        "empty": "",
        "dots": "..",
        "not ascii": GOOD + "ü",
        "null": GOOD + "\0",
        "space": GOOD.replace(".", " .", 1),
    }
    for name in ("iss", "aud", "iat", "exp", "sub", "net", "role", "sid", "ep"):
        found[f"without {name}"] = signed(
            HEADER, {key: value for key, value in CLAIMS.items() if key != name}
        )
    other_net = segment(CLAIMS | {"net": str(UUID(int=9, version=4))})
    found["spliced body"] = f"{head}.{other_net}.{signature}"
    return found


ATTACKS = attacks()


def test_the_good_token_passes() -> None:
    assert tokens.read_access(KEYS, GOOD, NOW) == ACCESS
    assert tokens.read_access(KEYS, signed(HEADER, CLAIMS), NOW) == ACCESS  # the control of the forgeries


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_attacks_are_refused(name: str) -> None:
    assert tokens.read_access(KEYS, ATTACKS[name], NOW) is None


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="utf-8"))
def test_no_changed_character_passes(at: int, character: str) -> None:
    changed = GOOD[:at] + character + GOOD[at + 1 :]
    read = tokens.read_access(KEYS, changed, NOW)
    # The last character of a base64url signature has bits that mean nothing; the token is the same then.
    assert read is None or changed == GOOD or (at == len(GOOD) - 1 and read == ACCESS)


def test_rotation_keeps_the_old_key_until_it_is_dropped() -> None:
    newer = KeyRing((Key("k2", RANDOM.randbytes(32)), *RINGS.token_signing.keys))
    rotated = UsersKeys(
        Keys(
            newer,
            RINGS.key_encryption,
            RINGS.pseudonym,
            RINGS.blind_index,
            RINGS.database_role,
            RINGS.code_pepper,
            RINGS.audit_signing,
        )
    )
    old = tokens.Refresh(USER, SESSION, 4)
    assert rotated.current.key_id == "k2"
    assert tokens.read_access(rotated, GOOD, NOW) == ACCESS
    assert tokens.read_refresh(rotated, old.text(KEYS.current)) == old
    assert tokens.read_access(KEYS, tokens.issue_access(rotated.current, ACCESS), NOW) is None
    assert tokens.read_refresh(KEYS, old.text(rotated.current)) is None


def test_an_access_token_cannot_be_made_to_live_long() -> None:
    with pytest.raises(ValueError, match="600"):
        tokens.issue_access(
            KEYS.current, tokens.Access(USER, NETWORK, Role.OWNER, SESSION, 0, None, AT, AT + 601)
        )


@given(st.uuids(), st.uuids(), st.integers(1, tokens.COUNTER_MAX))
def test_refresh_tokens_read_back(user: UUID, session: UUID, counter: int) -> None:
    said = tokens.Refresh(user, session, counter)
    text = said.text(KEYS.current)
    assert len(text) == tokens.REFRESH_CHARS
    assert tokens.read_refresh(KEYS, text) == said


@given(st.text(max_size=120))
def test_no_text_is_a_refresh_token_or_a_key_by_chance(text: str) -> None:
    assert tokens.read_refresh(KEYS, text) is None
    assert tokens.read_refresh(KEYS, "ygr_" + text) is None
    assert tokens.read_access(KEYS, text, NOW) is None
    key = apikeys.parse("ygg_" + text)
    assert key is None or key.text() == "ygg_" + text


@pytest.mark.parametrize(
    ("presented", "current", "use"),
    [
        (5, 5, "advance"),
        (6, 5, "advance"),
        (4, 5, "retry"),
        (3, 5, "theft"),
        (0, 5, "theft"),
        (0, 1, "retry"),
    ],
)
def test_judgement(presented: int, current: int, use: str) -> None:
    assert tokens.judge(presented, current).value == use


@given(st.uuids(), st.uuids(), st.binary(min_size=32, max_size=32))
def test_api_keys_read_back(network: UUID, key_id: UUID, secret: bytes) -> None:
    key = apikeys.ApiKey(network, key_id, secret)
    assert len(key.text()) == apikeys.TEXT_CHARS
    assert apikeys.parse(key.text()) == key
    assert key.digest() != apikeys.ApiKey(key_id, network, secret).digest() or network == key_id


@given(st.binary(min_size=16, max_size=16))
def test_codes_are_eight_digits(secret: bytes) -> None:
    assert codes.is_code(codes.code_from(secret))


@pytest.mark.parametrize(
    "text", ["1234567", "123456789", "1234567a", "١٢٣٤٥٦٧٨", " 1234567", "12345678\n", ""]
)
def test_what_is_no_code(text: str) -> None:
    assert not codes.is_code(text)


def test_a_code_is_bound_to_pepper_flow_and_device() -> None:
    pepper, device = bytes(32), b"d" * 32
    digest = codes.code_digest(pepper, USER, device, "12345678")
    assert codes.code_matches(pepper, USER, device, "12345678", digest)
    assert not codes.code_matches(b"x" * 32, USER, device, "12345678", digest)
    assert not codes.code_matches(pepper, SESSION, device, "12345678", digest)
    assert not codes.code_matches(pepper, USER, b"e" * 32, "12345678", digest)
    assert not codes.code_matches(pepper, USER, device, "12345679", digest)


def test_secrets_do_not_show() -> None:
    secret = RANDOM.randbytes(32)
    key = apikeys.ApiKey(NETWORK, SESSION, secret)
    shown = repr(key) + repr(KEYS) + repr(TokenSecret.of(Key("k1", secret)))
    assert repr(secret) not in shown
    assert secret.hex() not in shown
