"""Slips come back as they were signed, and nothing else is a slip."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.codec import MAX_DEPTH
from router.contract.errors import ConfigError, RejectCode
from router.contract.records import Origin
from router.core.cascade import Trial
from router.core.mirror import Mirror, Sample
from router.core.slip import Keyring, Slip, SlipError, from_list, sign, to_list, verify

OLD, NEW = b"o" * 32, b"n" * 32
RING = Keyring((NEW, OLD))

SLIP = Slip(
    request_id="1462af60e975e034dad89dbdd8b130e1",
    attempt=1,
    model="small",
    reason="routed",
    origin=Origin(topic="llm.requests", partition=3, offset=2**40),
    at_ms=1_700_000_000_000,
    deadline_at_ms=1_700_000_060_000,
    key=b"acme",
    tenant="acme",
    custom_id="r-1",
    metadata={"any": ["thing", 1, None]},
    lane="interactive",
    pool="auto",
    stratum="math/hard",
    cohort="pilot",
    propensity=0.93,
    policy_version="thompson:1287",
    first_model="small",
    baseline="large",
    trial=Trial("large", 0.62, 0.05),
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
texts = st.text(max_size=64)  # what UTF-8 can carry: all that the codec lets in


@given(metadata=json_values, key=st.none() | st.binary(), tenant=texts, custom_id=texts)
def test_comes_back_as_it_was_signed(metadata, key, tenant, custom_id):
    slip = replace(SLIP, metadata=metadata, key=key, tenant=tenant, custom_id=custom_id)
    assert verify(sign(slip, RING), RING) == slip


def test_of_a_shadow_it_says_what_is_mirrored():
    place = Origin(topic="llm.outcomes", partition=1, offset=7)
    mirror = Mirror(of=1, model="small", served_model="small-1", answer_at=place, inclusion=0.05, token="t")
    pair = replace(mirror, shadow="large", shadow_served_model="large-1", shadow_at=place, review=0.25, weight=0.5)
    for sample, one in [(Sample(review=0.1, weight=1.5, shadow=0.05), None), (None, mirror), (None, pair)]:
        slip = replace(SLIP, sample=sample, mirror=one)
        assert verify(sign(slip, RING), RING) == slip
        assert slip.beside == (one is not None)


def test_it_says_the_slices_and_whether_it_went_behind_and_one_of_an_earlier_release_says_neither():
    slip = replace(SLIP, slices=("language=cyrillic", "length=short"), behind=True)
    assert verify(sign(slip, RING), RING) == slip
    earlier = to_list(slip)[:-2]
    assert from_list(earlier) == SLIP


def test_metadata_nested_as_deep_as_the_codec_reads_comes_back():
    deep: list[object] = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    slip = replace(SLIP, metadata=deep)
    assert verify(sign(slip, RING), RING).metadata == deep


def test_refusal_has_no_model():
    slip = replace(SLIP, attempt=0, model=None, reason=None, pool=None, cohort=None, propensity=None)
    assert verify(sign(slip, RING), RING) == slip


def test_old_key_still_verifies_after_rotation_and_the_first_signs():
    by_old = sign(SLIP, Keyring((OLD,)))
    assert verify(by_old, RING) == SLIP
    assert sign(SLIP, RING) == sign(SLIP, Keyring((NEW,)))


def test_removed_key_verifies_no_longer():
    with pytest.raises(SlipError) as caught:
        verify(sign(SLIP, Keyring((OLD,))), Keyring((NEW,)))
    assert caught.value.code == RejectCode.WRONG_SLIP


@given(st.data())
def test_one_changed_character_is_no_slip(data):
    text = sign(SLIP, RING)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[at]))
    with pytest.raises(SlipError):
        verify(text[:at] + other + text[at + 1 :], RING)


@given(st.data())
def test_a_part_of_a_slip_is_no_slip(data):
    text = sign(SLIP, RING)
    with pytest.raises(SlipError):
        verify(text[: data.draw(st.integers(0, len(text) - 1))], RING)


@given(st.text(st.characters(codec=None)) | st.from_regex(r"[A-Za-z0-9_-]{0,80}", fullmatch=True))
def test_any_other_text_is_no_slip(text):
    with pytest.raises(SlipError):
        verify(text, RING)


def test_error_quotes_neither_text_nor_key():
    with pytest.raises(SlipError) as caught:
        verify("hostile-text", RING)
    assert "hostile" not in str(caught.value)
    assert "nnnn" not in repr(RING)


def test_keyring_is_read_one_key_a_line():
    assert Keyring.parse("n" * 32 + "\r\n\n  " + "o" * 32 + "  \n") == RING


@pytest.mark.parametrize(
    ("text", "named"), [("", "no secret"), ("n" * 32 + "\nshort", "line 2"), ("n" * 31, "31 bytes")]
)
def test_keyring_names_what_is_wrong_with_a_key(text, named):
    with pytest.raises(ConfigError, match=named):
        Keyring.parse(text)
