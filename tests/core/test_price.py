from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract.records import Usage
from router.core.price import UNPRICED, Price, cost_nano_usd, expected_cost_nano_usd

LIST = Price(
    input_nano_usd_per_token=100,
    output_nano_usd_per_token=400,
    cached_input_nano_usd_per_token=10,
    cache_write_nano_usd_per_token=125,
    version="2026-11-01",
)
PLAIN = Price(input_nano_usd_per_token=100, output_nano_usd_per_token=400)

counts = st.integers(min_value=0, max_value=10**6)


def test_prompt_and_completion_have_their_own_prices():
    assert cost_nano_usd(PLAIN, Usage(prompt_tokens=7, completion_tokens=3)) == 7 * 100 + 3 * 400


def test_cached_and_written_tokens_are_part_of_the_prompt():
    usage = Usage(prompt_tokens=100, cached_tokens=60, cache_write_tokens=30)
    assert cost_nano_usd(LIST, usage) == 10 * 100 + 60 * 10 + 30 * 125


def test_cached_and_written_tokens_cost_the_input_price_unless_one_is_given():
    assert cost_nano_usd(PLAIN, Usage(prompt_tokens=100, cached_tokens=60, cache_write_tokens=30)) == 100 * 100


def test_a_cached_price_of_zero_is_a_price():
    free = Price(input_nano_usd_per_token=100, output_nano_usd_per_token=0, cached_input_nano_usd_per_token=0)
    assert cost_nano_usd(free, Usage(prompt_tokens=10, cached_tokens=10)) == 0


def test_reasoning_tokens_are_part_of_the_completion():
    assert cost_nano_usd(PLAIN, Usage(completion_tokens=10, reasoning_tokens=9)) == 10 * 400


def test_no_usage_counts_as_no_tokens():
    assert cost_nano_usd(LIST, None) == 0


def test_an_unknown_price_is_no_cost_rather_than_zero():
    assert cost_nano_usd(UNPRICED, Usage(prompt_tokens=1)) is None
    assert cost_nano_usd(UNPRICED, None) is None
    assert expected_cost_nano_usd(UNPRICED, 1, 1) is None


@settings(deadline=None)
@given(prompt=counts, cached=counts, written=counts, completion=counts)
def test_contradicting_counts_never_cost_less_than_nothing_or_more_than_the_dearest_price(
    prompt, cached, written, completion
):
    usage = Usage(prompt_tokens=prompt, cached_tokens=cached, cache_write_tokens=written, completion_tokens=completion)
    cost = cost_nano_usd(LIST, usage)
    assert prompt * 10 + completion * 400 <= cost <= prompt * 125 + completion * 400


@settings(deadline=None)
@given(st.lists(st.tuples(counts, counts), max_size=20))
def test_the_cost_of_a_sum_is_the_sum_of_the_costs(pairs):
    parts = [cost_nano_usd(PLAIN, Usage(prompt_tokens=p, completion_tokens=c)) for p, c in pairs]
    whole = Usage(prompt_tokens=sum(p for p, _ in pairs), completion_tokens=sum(c for _, c in pairs))
    assert cost_nano_usd(PLAIN, whole) == sum(parts)


def test_a_miscounting_provider_cannot_overflow_64_bits():
    usage = Usage(prompt_tokens=10**30, completion_tokens=10**30)
    assert cost_nano_usd(LIST, usage) < 2**63


def test_a_price_survives_its_canonical_form():
    for price in (LIST, PLAIN, UNPRICED):
        assert Price.from_canonical(price.canonical()) == price
