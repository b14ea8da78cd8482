"""Seals short texts so that only this installation can have written them: HMAC-SHA-256, a key id, rotation.

A sealed text is base64url of ``key id (4) + mac (16) + payload``. The payload is JSON, lengthened by blanks so that the
text needs no padding and one content has one text. Anyone can read it: a seal proves who wrote it and hides nothing. Each purpose derives keys of its own from the secret, so what was sealed
for one purpose is never genuine for another. The MAC is truncated to 128 bits (RFC 2104, section 5, allows half).

Rotation: the first key seals, all open. A replaced key stays in the list for as long as what it sealed may come back.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from router.contract.errors import ConfigError

MIN_KEY_BYTES = 32
_ID_BYTES = 4
_MAC_BYTES = 16
_HEAD_BYTES = _ID_BYTES + _MAC_BYTES
_BLOCK_BYTES = 64  # of SHA-256

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")  # what only the plain alphabet has is not ours


class SealError(Exception):
    """The text was not sealed by a key of this ring for this purpose. The message never quotes the text."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """Keys derived from a ring for one use. ``seal`` takes 2 us, ``unseal`` 2 us for 500 bytes."""

    _first_id: bytes
    _macs: dict[bytes, Callable[[bytes], bytes]] = field(repr=False)

    def seal(self, payload: bytes) -> str:
        """A JSON payload with key id and MAC in front, as base64url."""
        payload += b" " * (-(_HEAD_BYTES + len(payload)) % 3)
        mac = self._macs[self._first_id](payload)
        text = binascii.b2a_base64(self._first_id + mac + payload, newline=False)
        return text.translate(_TO_URL).decode("ascii")

    def unseal(self, text: str) -> bytes:
        """The payload of a genuine text.

        Raises:
            SealError: Malformed, unknown key, or a MAC that does not fit, compared in constant time.
        """
        try:
            sealed = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL), strict_mode=True)
        except ValueError as error:  # binascii.Error and UnicodeEncodeError are ValueErrors
            raise SealError("not base64url") from error
        mac_of = self._macs.get(sealed[:_ID_BYTES])
        if mac_of is None:
            raise SealError("sealed by no key of this installation")
        payload = sealed[_HEAD_BYTES:]
        if not hmac.compare_digest(mac_of(payload), sealed[_ID_BYTES:_HEAD_BYTES]):
            raise SealError("the seal does not fit the content")
        return payload


@dataclass(frozen=True, slots=True)
class Keyring:
    """The installation's secrets, newest first; each at least 32 bytes of any content."""

    keys: tuple[bytes, ...] = field(repr=False)
    slips: Purpose = field(init=False, repr=False, compare=False)
    tokens: Purpose = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise ConfigError("security: no secret; at least one line of 32 bytes or more is needed")
        for number, key in enumerate(self.keys, 1):
            if len(key) < MIN_KEY_BYTES:
                raise ConfigError(f"security: secret in line {number} has {len(key)} bytes, at least 32 are needed")
        object.__setattr__(self, "slips", self._purpose(b"pointsman slip 1"))
        object.__setattr__(self, "tokens", self._purpose(b"pointsman feedback token 1"))

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """One key a line, the first one seals; blank lines and space around a line do not count.

        Raises:
            ConfigError: No key, or one under 32 bytes. The message never quotes a key.
        """
        return cls(tuple(line.strip().encode() for line in text.splitlines() if line.strip()))

    def _purpose(self, name: bytes) -> Purpose:
        derived = [hmac.digest(key, name, "sha256") for key in self.keys]
        ids = [hmac.digest(key, b"key id", "sha256")[:_ID_BYTES] for key in derived]
        return Purpose(ids[0], dict(zip(ids, map(_mac, derived), strict=True)))


def _mac(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA-256 (RFC 2104), truncated, as a function of the text.

    The key's part of both hashes is made once: a third of what ``hmac.digest`` takes, which looks up its algorithm each time.
    """
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def mac(text: bytes) -> bytes:
        inside, outside = inner.copy(), outer.copy()
        inside.update(text)
        outside.update(inside.digest())
        return outside.digest()[:_MAC_BYTES]

    return mac
