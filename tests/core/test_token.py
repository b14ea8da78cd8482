"""Feedback tokens: genuine, alive, and not to be confused with slips."""

import base64
import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.records import Origin
from router.core.slip import Keyring, Slip, SlipError, sign, verify
from router.core.token import FeedbackFacts, TokenError, issue, open_token

RING = Keyring((b"n" * 32, b"o" * 32))
FACTS = FeedbackFacts(
    request_id="1462af60e975e034dad89dbdd8b130e1",
    tenant="acme",
    lane="batch",
    pool="auto",
    stratum="math/hard",
    first_model="small",
    model="mid",
    answered_by_attempt=2,
    cohort="pilot",
    propensity=0.93,
    policy_version="thompson:1287",
    expires_at_ms=1_700_000_000_000,
)


def test_opens_until_it_expires():
    text = issue(FACTS, RING)
    assert open_token(text, RING, FACTS.expires_at_ms - 1) == FACTS
    with pytest.raises(TokenError) as caught:
        open_token(text, RING, FACTS.expires_at_ms)
    assert caught.value.code == "expired_token"


def test_it_says_the_slices():
    facts = replace(FACTS, slices=("language=cyrillic", "length=short"))
    assert open_token(issue(facts, RING), RING, 0) == facts


@given(st.binary(min_size=32, max_size=200), st.binary(max_size=300))
def test_the_seal_is_hmac_sha_256_under_a_key_derived_for_the_purpose(secret, payload):
    sealed = base64.urlsafe_b64decode(Keyring((secret,)).tokens.seal(payload))
    key = hmac.digest(secret, b"pointsman feedback token 1", hashlib.sha256)
    assert sealed[:4] == hmac.digest(key, b"key id", hashlib.sha256)[:4]
    assert sealed[4:20] == hmac.digest(key, sealed[20:], hashlib.sha256)[:16]
    assert sealed[20:].rstrip(b" ") == payload.rstrip(b" ")


def test_slip_is_no_token_and_token_is_no_slip():
    slip = Slip(
        request_id=FACTS.request_id,
        attempt=1,
        model="small",
        reason="routed",
        origin=Origin(topic="llm.requests", partition=0, offset=0),
        at_ms=0,
        deadline_at_ms=60_000,
        key=None,
        tenant="acme",
        custom_id="r-1",
        metadata=None,
        lane="interactive",
    )
    with pytest.raises(TokenError) as caught:
        open_token(sign(slip, RING), RING, 0)
    assert caught.value.code == "forged_token"
    with pytest.raises(SlipError):
        verify(issue(FACTS, RING), RING)


@given(st.data())
def test_one_changed_character_is_forged(data):
    text = issue(FACTS, RING)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[at]))
    with pytest.raises(TokenError) as caught:
        open_token(text[:at] + other + text[at + 1 :], RING, 0)
    assert caught.value.code == "forged_token"
