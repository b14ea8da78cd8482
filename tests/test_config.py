"""One file, any key by variable, one clear line for each mistake."""

import os
import re
import subprocess
import sys
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import (
    Config,
    ConfigError,
    ModelConfig,
    ModelPrice,
    check,
    example,
    load,
    loads,
    reference_markdown,
    sasl_password,
    show,
    signing_secret,
)

ROOT = Path(__file__).parents[1]

SMALLEST = """
[models.small]
unpriced = true
[models.large]
input_usd_per_mtok = 2.5
output_usd_per_mtok = 10
[pools.auto]
models = ["small", "large"]
"""


def problems(text: str, **kwargs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, **kwargs)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def with_model(lines: str) -> str:
    return f'[models.m]\n{lines}\n[pools.auto]\nmodels = ["m"]\n'


def with_pool(lines: str) -> str:
    return SMALLEST.replace('[pools.auto]\nmodels = ["small", "large"]', f"[pools.auto]\n{lines}")


# What is in force


def test_a_file_with_models_and_pools_alone_works():
    config = loads(SMALLEST)
    assert config.kafka.broker is None
    assert (config.kafka.prefix, config.kafka.partitions) == ("llm", None)
    assert (config.account.window_s, config.account.grace_s) == (60, 10)
    assert (config.settle.dedupe_window_s, config.settle.dedupe_max_ids) == (86_400, 20_000_000)
    assert config.route.max_inflight == 5000
    pool = config.pools["auto"]
    assert (pool.baseline, pool.policy, pool.sticky, pool.epsilon) == ("large", "thompson", "session", 0.02)
    assert (pool.rollout_percent, pool.holdout_percent, pool.max_attempts) == (100, 2, 4)
    assert [band.max_tokens for band in config.classify.bands] == [200, None]
    assert config.models["small"].provider_model == "small"
    assert config.tenants == {}


def test_the_example_works_without_a_warning_and_is_what_counts_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(environ={})
    assert config.model_dump() == loads(example()).model_dump()
    assert check(config, {}) == []
    assert list(config.models) == ["small", "large"]
    assert {model.provider for model in config.models.values()} == {"sim"}


def test_the_file_is_the_named_one_then_the_variable_then_the_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("named", "variable", "pointsman"):
        (tmp_path / f"{name}.toml").write_text(SMALLEST + f'[kafka]\nprefix = "{name}"\n')
    environ = {"POINTSMAN_CONFIG": "variable.toml"}
    assert load("named.toml", environ=environ).kafka.prefix == "named"
    assert load(environ=environ).kafka.prefix == "variable"
    assert load(environ={}).kafka.prefix == "pointsman"


def test_the_environment_is_that_of_the_process(monkeypatch):
    monkeypatch.setenv("POINTSMAN_KAFKA__PREFIX", "mine")
    assert load().kafka.prefix == "mine"


def test_the_command_line_stands_above_variables_and_these_above_the_file():
    text = SMALLEST + '[kafka]\nbroker = "file:1"\n'
    section, broker = {"POINTSMAN_KAFKA__BROKER": "section:2"}, {"BROKER": "broker:3"}
    assert loads(text).kafka.broker == "file:1"
    assert loads(text, environ=section).kafka.broker == "section:2"
    assert loads(text, environ=section | broker).kafka.broker == "broker:3"
    overrides = {"kafka.broker": "line:4", "web.port": None}
    assert loads(text, environ=section | broker, overrides=overrides).kafka.broker == "line:4"


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("POINTSMAN_ACCOUNT__GRACE_S", "2.5", lambda config: config.account.grace_s == 2.5),
        ("POINTSMAN_POOLS__AUTO__EPSILON", "0", lambda config: config.pools["auto"].epsilon == 0),
        ("POINTSMAN_POOLS__AUTO__AUTO_ROLLBACK", "true", lambda config: config.pools["auto"].auto_rollback),
        ("POINTSMAN_POOLS__AUTO__MODELS", '["large"]', lambda config: config.pools["auto"].models == ("large",)),
        (
            "POINTSMAN_MODELS__LARGE__INPUT_USD_PER_MTOK",
            "0.1",
            lambda c: c.models["large"].price.input_nano_usd_per_token == 100,
        ),
        (
            "POINTSMAN_MODELS__small__BASE_URL",
            "http://h/v1/",
            lambda c: c.models["small"].endpoints[0].base_url == "http://h/v1",
        ),
        ("POINTSMAN_TENANTS__ACME__POOLS", '["auto"]', lambda config: config.tenants["acme"].pools == ("auto",)),
        (
            "POINTSMAN_CLASSIFY__RULES",
            '[{"name": "code", "any": ["def"]}]',
            lambda c: c.classify.rules[0].any == ("def",),
        ),
    ],
)
def test_any_key_can_be_set_by_a_variable(variable, text, read):
    assert read(loads(SMALLEST, environ={variable: text}))


def test_a_configuration_never_changes():
    config = loads(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        config.kafka.prefix = "x"


# Prices and endpoints


def test_prices_are_whole_nano_dollars_a_token():
    prices = (
        "input_usd_per_mtok = 0.15\noutput_usd_per_mtok = 0.6\ncached_input_usd_per_mtok = 0.075\nprice_version = 'v1'"
    )
    price = loads(with_model(prices)).models["m"].price
    assert price == ModelPrice(
        input_nano_usd_per_token=150,
        output_nano_usd_per_token=600,
        cached_input_nano_usd_per_token=75,
        cache_write_nano_usd_per_token=None,
        price_version="v1",
    )


@given(st.integers(0, 4_000_000))
def test_every_whole_price_is_exact(nano):
    usd = Decimal(nano) / 1000
    config = loads(with_model(f"input_usd_per_mtok = {usd:f}\noutput_usd_per_mtok = {usd:f}"))
    assert config.models["m"].price.output_nano_usd_per_token == nano


def test_a_model_without_a_known_price_is_unpriced_not_free():
    assert loads(with_model("unpriced = true")).models["m"].price.unpriced


@pytest.mark.parametrize(
    ("lines", "addresses"),
    [
        ("provider = 'openai'", [("default", "https://api.openai.com/v1", "OPENAI_API_KEY")]),
        ("base_url = 'http://h:1/v1/'", [("default", "http://h:1/v1", None)]),
        ("base_url = 'http://h/v1'\napi_key_env = 'K'", [("default", "http://h/v1", "K")]),
        ("provider = 'sim'", [("default", "http://127.0.0.1:8089/v1", None)]),
        ("provider = 'external'", []),
        ("endpoints = [{name = 'a', base_url = 'http://a'}, {name = 'b', base_url = 'http://b', api_key_env = 'B'}]",
         [("a", "http://a", None), ("b", "http://b", "B")]),
    ],
)  # fmt: skip
def test_a_model_has_one_endpoint_or_several(lines, addresses):
    endpoints = loads(with_model(f"unpriced = true\n{lines}")).models["m"].endpoints
    assert [(endpoint.name, endpoint.base_url, endpoint.api_key_env) for endpoint in endpoints] == addresses


# One line a mistake

UNPRICED = "unpriced = true\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "models: is missing"),
        ("[models]\n[pools]", "models: must not be empty"),
        (SMALLEST + "[kafak]", 'kafak: unknown section (did you mean "kafka"?)'),
        (SMALLEST + "[kafka]\nbrokr = 'h:1'", 'kafka.brokr: unknown key (did you mean "broker"?)'),
        (SMALLEST + "[kafka]\nbroker = 'h'", 'kafka.broker: "h" is no HOST:PORT, like 127.0.0.1:9092'),
        (SMALLEST + "[kafka]\npartitions = 0", "kafka.partitions: must be at least 1, not 0"),
        (SMALLEST + "[kafka]\npartitions = true", "kafka.partitions: must be a number, not true or false"),
        (SMALLEST + "[kafka]\npartitions = 1.5", "kafka.partitions: must be a whole number, not "),
        (SMALLEST + "[kafka]\nprefix = 'a b'", "kafka.prefix: must match "),
        (SMALLEST + "[kafka]\nsecurity_protocol = 'TLS'", "kafka.security_protocol: must be 'PLAINTEXT', "),
        (SMALLEST + "[kafka]\nsecurity_protocol = 'SASL_SSL'",
         "kafka.sasl_username: is missing; security_protocol SASL_SSL needs it"),
        (SMALLEST + "[kafka]\nsecurity_protocol = 'SASL_SSL'\nsasl_username = 'u'",
         "kafka.sasl_password_env: is missing; security_protocol SASL_SSL needs it"),
        (SMALLEST + "[kafka]\nsasl_username = 'u'", "kafka.sasl_username: has no effect with security_protocol PLAINTEXT"),
        (SMALLEST + "[kafka]\nssl_cafile = 'f'", "kafka.ssl_cafile: has no effect with security_protocol PLAINTEXT"),
        (SMALLEST + "[kafka]\nsecurity_protocol = 'SSL'\nssl_keyfile = 'f'",
         "kafka.ssl_certfile: is missing; ssl_keyfile belongs to it"),
        (SMALLEST + "[web]\nport = 65536", "web.port: must be at most 65535, not 65536"),
        (SMALLEST + "[account]\nwindow_s = 0", "account.window_s: must be at least 1, not 0"),
        (SMALLEST + "[account]\ngrace_s = nan", "account.grace_s: must be more than 0, not NaN"),
        (SMALLEST + "[security]\nsecret_env = 'A'\nsecret_file = 'b'",
         "security.secret_file: give secret_env or secret_file, not both"),
        (SMALLEST + "[pools.auto.fallback]\neror = []", 'pools.auto.fallback.eror: unknown key (did you mean "error"?)'),
        (SMALLEST + "[pools.auto.fallback]\nerror = ['b']", 'pools.auto.fallback.error: model "b" is not in models'),
        (SMALLEST + "[pools.auto.fallback]\nhedge_to = 'm'", "pools.auto.fallback.hedge_to: hedges nothing: hedge_percent is 0"),
        (SMALLEST + "[tenants.acme]\npools = ['atuo']", 'tenants.acme.pools: pool "atuo" is not in pools (did you mean "auto"?)'),
        (SMALLEST + "[tenants.acme]\nmodels = ['smal']", 'tenants.acme.models: model "smal" is not in models (did you mean "small"?)'),
        (SMALLEST + "[tenants.Acme]", 'tenants.Acme: "Acme" is no usable name: '),
        (SMALLEST + "[classify]\nbands = []", "classify.bands: must not be empty"),
        (SMALLEST + "[classify]\nbands = [{name='a', max_tokens=9}]", "classify.bands: the last band must have no max_tokens"),
        (SMALLEST + "[classify]\nbands = [{name='a', max_tokens=9}, {name='b', max_tokens=9}, {name='c'}]",
         "classify.bands: each band but the last needs max_tokens, ascending"),
        (SMALLEST + "[classify]\nbands = [{name='a'}, {name='c'}]", "classify.bands: each band but the last needs max_tokens"),
        (SMALLEST + "[classify]\nrules = [{name='a', any=[]}]", "classify.rules.0.any: must not be empty"),
        (SMALLEST + "[classify]\nrules = [{name='slice', any=['x']}]", "classify.rules: no class may be called 'slice'"),
        (SMALLEST + "[classify]\nrules = [" + ", ".join(f"{{name='c{n}', any=['x']}}" for n in range(70)) + "]",
         "classify: 71 classes x 2 bands are more than 128 strata"),
        (with_model("provider = 'sim'"),
         "models.m.input_usd_per_mtok: is missing; give the price, or unpriced = true if nobody knows it"),
        (with_model("input_usd_per_mtok = 1"), "models.m.output_usd_per_mtok: is missing; "),
        (with_model("input_usd_per_mtok = 0.0005\noutput_usd_per_mtok = 1"),
         "models.m.input_usd_per_mtok: 0.0005 USD a million tokens is 0.5 nano-dollars a token; it must be a whole number"),
        (with_model("input_usd_per_mtok = -1\noutput_usd_per_mtok = 1"), "models.m.input_usd_per_mtok: must be between 0 and "),
        (with_model("input_usd_per_mtok = 1e300\noutput_usd_per_mtok = 1"), "models.m.input_usd_per_mtok: must be between 0 and "),
        (with_model("input_usd_per_mtok = nan\noutput_usd_per_mtok = 1"), "models.m.input_usd_per_mtok: must be a finite number"),
        (with_model(UNPRICED + "input_usd_per_mtok = 1"), "models.m.unpriced: is true, but a price is given"),
        (with_model(UNPRICED + "provider = 'opnai'"), '"opnai" (did you mean "openai"?)'),
        (with_model(UNPRICED + "concurrency = 'many'"), 'models.m.concurrency: must be a whole number, not "many"'),
        (with_model(UNPRICED + "capabilities = ['tool']"), '"tool" (did you mean "tools"?)'),
        (with_model(UNPRICED + "capabilities = 'tools'"), 'models.m.capabilities: must be a list, not "tools"'),
        (with_model(UNPRICED + "base_url = 'h:1'"), "models.m.base_url: must be an http:// or https:// address"),
        (with_model(UNPRICED + "base_url = 'http://u:p@h'"), "models.m.base_url: must not hold a user name or password"),
        (with_model(UNPRICED + "base_url = 'http://h'\nendpoints = [{name='a', base_url='http://h'}]"),
         "models.m.endpoints: give endpoints, or base_url and api_key_env for a single one, not both"),
        (with_model(UNPRICED + "endpoints = [{name='a', base_url='http://h'}, {name='a', base_url='http://i'}]"),
         'models.m.endpoints: "a" is listed twice'),
        (with_model(UNPRICED + "provider = 'external'\nbase_url = 'http://h'"),
         "models.m.provider: nobody here serves an external model; leave its endpoints out"),
        (with_model(UNPRICED + "endpoints = [{name='a', base_url='http://h', weight=0}]"),
         "models.m.endpoints.0.weight: must be at least 0.01, not 0"),
        (with_model(UNPRICED + "endpoints = [{name='a', base_url='http://h', concurrency=0}]"),
         "models.m.endpoints.0.concurrency: must be at least 1, not 0"),
        (with_model(UNPRICED + "first_token_timeout_s = 60"),
         "models.m.first_token_timeout_s: 60 must be less than timeout_s 60"),
        (with_model(UNPRICED + "idle_timeout_s = 0"), "models.m.idle_timeout_s: must be more than 0"),
        (with_model(UNPRICED + "provider = 'litellm'\nidle_timeout_s = 5"),
         'models.m.idle_timeout_s: provider "litellm" does not stream here; only "openai" and "sim" do'),
        (with_model(UNPRICED + "context_window = 10"), "models.m.max_output_tokens: 16384 is more than context_window 10"),
        ("models = 3", "models: must be a table, not 3"),
        (SMALLEST + "[models.b]\nunpriced = true\n[models.B]\nunpriced = true", 'models.B: "B" is no usable name'),
        (with_pool("baseline = 'large'"), "pools.auto.models: is missing"),
        (with_pool("models = []"), "pools.auto.models: must not be empty"),
        (with_pool("models = ['small', 'larg']"), 'pools.auto.models: model "larg" is not in models (did you mean "large"?)'),
        (with_pool("models = ['small', 'small']"), 'pools.auto.models: "small" is listed twice'),
        (with_pool("models = ['small']\nbaseline = 'larg'"),
         'pools.auto.baseline: model "larg" is not in models (did you mean "large"?)'),
        (with_pool("models = ['small']\nbaseline = 'large'"), "pools.auto.baseline: model \"large\" is not in this pool's models"),
        (with_pool("models = ['small']\nobjective = 'budget'\nbudget_usd_per_request = 0.01"),
         'pools.auto.objective: "budget" needs policy "squarecb", and policy is "thompson"'),
        (with_pool("models = ['small']\nobjective = 'budget'\npolicy = 'squarecb'"),
         'pools.auto.budget_usd_per_request: is missing; objective "budget" needs it, above 0'),
        (with_pool("models = ['small']\nbudget_usd_per_request = 0.01"),
         'pools.auto.budget_usd_per_request: only objective "budget" keeps one, and objective is "quality_floor"'),
        (with_pool("models = ['small']\npolicy = 'fixed'"), 'pools.auto.weights: is missing; policy "fixed" needs'),
        (with_pool("models = ['small', 'large']\npolicy = 'fixed'\nweights = {small = 0.4, large = 0.5}"),
         "pools.auto.weights: sum to 0.9, not 1"),
        (with_pool("models = ['small']\npolicy = 'fixed'\nweights = {smal = 1}"),
         "pools.auto.weights.smal: model \"smal\" is not in this pool's models (did you mean \"small\"?)"),
        (with_pool("models = ['small']\nweights = {small = 1}"), 'pools.auto.weights: only policy "fixed" follows weights'),
        (with_pool("models = ['small']\nrollout_percent = 101"), "pools.auto.rollout_percent: must be at most 100, not 101"),
        (with_pool("models = ['small']\nholdout_percent = -1"), "pools.auto.holdout_percent: must be at least 0, not -1"),
        (with_pool("models = ['small']\nepsilon = 0.6"), "pools.auto.epsilon: must be at most 0.5, not "),
        (with_pool("models = ['small']\njudge = 'jude'"), 'pools.auto.judge: model "jude" is not in models'),
        (with_pool("models = ['small']\nbudget_usd_per_request = 1e-10"), "pools.auto.budget_usd_per_request: 1E-10 USD is finer"),
        (with_pool("models = ['small']") + "[pools.small]\nmodels = ['small']", "pools.small: is also the name of a model"),
        ("x = ", "no valid TOML: "),
        (SMALLEST + SMALLEST, "no valid TOML: "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_key_and_remedy(text, line):
    found = problems(text)
    assert all(problem.startswith("pointsman.toml: ") and "\n" not in problem for problem in found)
    assert any(line in problem for problem in found), found


def test_every_mistake_is_reported_at_once():
    text = SMALLEST + "[kafka]\nprefix = ''\nbrokr = 1\n[web]\nport = 'x'\n"
    assert [problem.split(": ")[1] for problem in problems(text)] == ["kafka.prefix", "kafka.brokr", "web.port"]


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"POINTSMAN_KAFK__BROKER": "h:1"}, 'POINTSMAN_KAFK__BROKER: kafk: unknown section (did you mean "kafka"?)'),
        ({"POINTSMAN_KAFKA__BROKR": "h:1"}, 'POINTSMAN_KAFKA__BROKR: kafka.brokr: unknown key (did you mean "broker"?)'),
        ({"POINTSMAN_WEB__PORT": "x"}, 'POINTSMAN_WEB__PORT: web.port: must be a whole number, not "x"'),
        ({"POINTSMAN_POOLS__AUTO__MODELS": "a,b"}, 'POINTSMAN_POOLS__AUTO__MODELS: pools.auto.models: must be JSON, like ["a", "b"]'),
        ({"BROKER": "h"}, 'BROKER: kafka.broker: "h" is no HOST:PORT, like 127.0.0.1:9092'),
        ({"POINTSMAN_POOLS__AUTO__BASELINE": "larg"},
         'POINTSMAN_POOLS__AUTO__BASELINE: pools.auto.baseline: model "larg" is not in models (did you mean "large"?)'),
    ],
)  # fmt: skip
def test_a_mistake_in_a_variable_names_the_variable(environ, line):
    assert problems(SMALLEST, environ=environ) == [line]


def test_a_mistake_on_the_command_line_says_so():
    assert problems(SMALLEST, overrides={"kafka.broker": "h"})[0].startswith("command line: kafka.broker: ")


@pytest.mark.parametrize(
    ("path", "line"),
    [("absent.toml", "no such file or directory"), (".", "is a directory"), ("binary.toml", "not UTF-8 at byte 0")],
)
def test_a_file_that_cannot_be_read_is_named_as_it_was_given(tmp_path, monkeypatch, path, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"--config {path}: {line}"
    with pytest.raises(ConfigError) as caught:
        load(environ={"POINTSMAN_CONFIG": path})
    assert str(caught.value) == f"POINTSMAN_CONFIG={path}: {line}"


toml_values = st.one_of(st.just("true"), st.just("-1"), st.just("nan"), st.just("'x'"), st.just("[]"), st.just("{}"), st.just("[[1]]"),
                        st.just("1979-05-27"), st.just("99999999999999999999"), st.just("1e999999999"))  # fmt: skip


@given(
    st.sampled_from(sorted(ModelConfig.model_fields)),
    st.sampled_from(sorted(Config.model_fields)),
    toml_values,
)
def test_any_value_anywhere_is_in_force_or_a_config_error(key, section, value):
    for text in (
        with_model(f"{key} = {value}"),
        f"{section} = {value}\n" + SMALLEST,
        SMALLEST + f"[kafka]\nx = {value}",
    ):
        try:
            assert isinstance(loads(text), Config)
        except ConfigError as error:
            assert error.problems  # noqa: PT017 - either is right


# Secrets


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (with_model(UNPRICED + "api_key = 'sk-secret'"), "api_key_env"),
        (SMALLEST + "[kafka]\nsasl_password = 'sk-secret'", "sasl_password_env or sasl_password_file"),
        (SMALLEST + "[security]\nsecret = 'sk-secret'", "secret_env or secret_file"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_shown(text, remedy):
    [problem] = problems(text)
    assert f"secrets come only from the environment or a file: use {remedy}" in problem
    assert "sk-secret" not in problem


def test_a_secret_where_a_variables_name_belongs_is_not_shown():
    [problem] = problems(with_model(UNPRICED + "api_key_env = 'sk-secret'"))
    assert "models.m.api_key_env: must match" in problem
    assert "sk-secret" not in problem


def test_the_signing_secret_comes_from_a_variable_or_a_file(tmp_path):
    key, older = "k" * 32, "ö" * 16
    assert signing_secret(loads(SMALLEST)) is None
    by_variable = loads(SMALLEST + "[security]\nsecret_env = 'S'")
    assert signing_secret(by_variable, {"S": f"{key}\n\n {older} \n"}) == f"{key}\n{older}"
    (tmp_path / "secret").write_text(key + "\n")
    by_file = loads(SMALLEST + f"[security]\nsecret_file = '{tmp_path}/secret'")
    assert signing_secret(by_file) == key


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "security.secret_env: variable S is not set"),
        ({"S": "\n"}, "security.secret_env: is empty; it needs at least 32 bytes"),
        ({"S": "k" * 32 + "\n" + "k" * 31}, "security.secret_env: key 2 has 31 bytes, fewer than 32"),
    ],
)
def test_a_short_or_missing_secret_is_refused(environ, line):
    with pytest.raises(ConfigError, match=re.escape(line)):
        signing_secret(loads(SMALLEST + "[security]\nsecret_env = 'S'"), environ)


def test_a_secret_file_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"security\.secret_file: /nowhere/s: no such file or directory"):
        signing_secret(loads(SMALLEST + "[security]\nsecret_file = '/nowhere/s'"))


def test_the_sasl_password_comes_from_a_variable_or_a_file(tmp_path):
    sasl = SMALLEST + "[kafka]\nsecurity_protocol = 'SASL_SSL'\nsasl_username = 'u'\n"
    assert sasl_password(loads(SMALLEST)) is None
    assert sasl_password(loads(sasl + "sasl_password_env = 'P'"), {"P": " p "}) == " p "
    (tmp_path / "p").write_text("word\n")
    assert sasl_password(loads(sasl + f"sasl_password_file = '{tmp_path}/p'")) == "word"


# check, show, reference


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (SMALLEST.replace("pools.auto", "pools.main"), 'pools: there is no pool "auto"'),
        (SMALLEST, "models.small.unpriced: the cost of its answers will be unknown"),
        (SMALLEST, "models.large.api_key_env: variable OPENAI_API_KEY is not set"),
        (SMALLEST + "[security]\nsecret_env = 'S'", "security.secret_env: variable S is not set"),
        (SMALLEST + "[security]\nsecret_file = '/nowhere/s'", "security.secret_file: no file /nowhere/s"),
        (
            with_pool("models = ['small']\nshadow_percent = 5"),
            "pools.auto.shadow_percent: has no effect: the pool has one",
        ),
        (SMALLEST + "[reviews]\nredact = 'no.such:hook'", "reviews.redact: no.such:hook: No module named"),
        (
            SMALLEST + "[reviews]\nredact = 'os:no_such_hook'",
            "reviews.redact: os:no_such_hook: module 'os' has no attribute",
        ),
        (SMALLEST + "[reviews]\nredact = 'os:sep'", "reviews.redact: os:sep: is no function"),
        (with_pool("models = ['small']\njudge = 'large'"), "pools.auto.judge: has no effect without shadow_percent"),
        (with_pool("models = ['small']\nshadow_usd_per_day = 5"), "pools.auto.shadow_usd_per_day: has no effect"),
        (
            with_pool("models = ['small', 'large']\nshadow_percent = 5\njudge = 'large'"),
            "pools.auto.judge: is one of the two",
        ),
        (
            with_pool("models = ['small']") + "[tenants.acme]\nmodels = ['large']",
            'tenants.acme.models: none of them is in pool "auto": its requests to it are refused',
        ),
        (
            SMALLEST + "[tenants.acme]\nbudget_usd_per_day = 5\nsoft_usd_per_day = 5",
            "tenants.acme.soft_usd_per_day: is no warning: requests are refused from 5 USD on",
        ),
        (
            with_model(UNPRICED + "concurrency = 9\nendpoints = [{name='a', base_url='http://h', concurrency=8}]"),
            "models.m.concurrency: its endpoints take 8 calls at once, and 9 are in hand",
        ),
    ],
)
def test_check_warns_of_what_is_missing_or_in_vain(text, line):
    assert any(warning.startswith(line) for warning in check(loads(text), {}))


def test_show_is_toml_that_gives_the_same_configuration_with_the_source_of_each_value():
    environ = {"POINTSMAN_KAFKA__PREFIX": "mine", "POINTSMAN_ACCOUNT__GRACE_S": "3"}
    config = loads(example(), environ=environ, overrides={"kafka.broker": "h:1"})
    shown = show(config)
    assert loads(shown).model_dump() == config.model_dump()
    assert tomllib.loads(shown)["kafka"]["prefix"] == "mine"
    sources = dict(re.findall(r"^(\w+) = .*# (.+)$", shown[shown.index("[kafka]") :], re.MULTILINE))
    assert sources["prefix"] == "POINTSMAN_KAFKA__PREFIX"
    assert sources["broker"] == "command line"
    assert sources["replication_factor"] == "default"
    assert re.search(r"^policy = .*# pointsman.toml$", shown, re.MULTILINE)


def test_show_names_where_secrets_are_and_never_what_they_are():
    config = loads(SMALLEST + "[security]\nsecret_env = 'S'", environ={"S": "x" * 40})
    assert 'secret_env = "S"' in show(config)
    assert "x" * 40 not in show(config)


def test_the_reference_is_generated_and_names_every_key():
    text = (ROOT / "docs" / "config.md").read_text()
    assert text == reference_markdown(), "run python -m router.config"
    for key in ("input_usd_per_mtok", "rollout_percent", "secret_env", "dedupe_max_ids", "keys_env", "any"):
        assert f"| `{key}` |" in text


def test_the_reference_command_writes_the_same(tmp_path):
    (tmp_path / "docs").mkdir()
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "router.config"], cwd=tmp_path, env=environ, check=True)
    assert (tmp_path / "docs" / "config.md").read_text() == reference_markdown()


def test_every_key_of_the_contract_is_there():
    known = {key for line in reference_markdown().splitlines() for key in re.findall(r"^\| `(\w+)` \|", line)}
    contract = """broker prefix partitions data_dir host port keys_env window_s grace_s ttl_s secret_env secret_file provider
    provider_model context_window max_output_tokens capabilities concurrency timeout_s input_usd_per_mtok output_usd_per_mtok
    cached_input_usd_per_mtok price_version endpoints name base_url api_key_env requests_per_minute tokens_per_minute models
    baseline policy weights objective margin budget_usd_per_request sticky session_ttl_s epsilon rollout_percent holdout_percent
    auto_rollback shadow_percent reviews_per_day judge cascade budget_usd_per_day pools weight"""
    assert set(contract.split()) <= known


def cascade(lines: str, pool: str = "") -> str:
    return f"{SMALLEST}{pool}\n[pools.auto.cascade]\n{lines}\n"


def test_a_cascade_is_switched_on_by_true_or_a_table():
    on = loads(SMALLEST + "cascade = true\n").pools["auto"].cascade
    assert (on.threshold, on.target_risk, on.observe) == (0.5, 0.05, False)
    assert loads(SMALLEST + "cascade = false\n").pools["auto"].cascade is None
    assert loads(cascade("threshold = 0.8")).pools["auto"].cascade.threshold == 0.8
    by_variable = loads(SMALLEST, environ={"POINTSMAN_POOLS__AUTO__CASCADE": "true"})
    assert by_variable.pools["auto"].cascade == on


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (cascade('escalate_to = "smal"'), 'escalate_to: model "smal" is not in this pool\'s models'),
        (cascade('escalate_to = "small"'), 'escalate_to: "small" is the model that is asked first'),
        (cascade("", 'baseline = "small"'), '"small", the cheapest model, is the baseline'),
        (cascade('signal = "logprobs"'), "models.small.capabilities does not have it"),
        (cascade('signal = "judge"'), '"judge" needs one: pools.auto.judge is not set'),
        (cascade('pattern = "("'), "pattern: is no regular expression"),
        (cascade("target_risk = 0"), "target_risk"),
        (cascade("thresold = 0.5"), 'did you mean "threshold"'),
        (SMALLEST + "cascade = 3\n", "pools.auto.cascade"),
    ],
)
def test_what_is_wrong_with_a_cascade_is_said(text, problem):
    assert any(problem in line for line in problems(text)), problems(text)


def test_a_judge_without_a_cascade_that_asks_it_is_in_vain():
    assert any("judge" in line for line in check(loads(SMALLEST + 'judge = "large"\n'), {}))
    asked = cascade('signal = "judge"', 'judge = "large"')
    assert not any("judge" in line for line in check(loads(asked), {}))


def test_an_optimistic_start_needs_a_policy_that_looks_at_p_ok():
    assert any("optimistic_start" in line for line in problems(SMALLEST + "optimistic_start = true\n"))
    assert loads(SMALLEST + 'optimistic_start = true\npolicy = "squarecb"\n').pools["auto"].optimistic_start


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 20_000, ".".join(["a"] * 3_000) + " = 1", "kafka.partitions = " + "9" * 5_000],
    ids=["lists", "keys", "an integer of 5,000 digits"],
)
def test_what_is_too_deep_or_endless_is_a_configuration_error(text):
    with pytest.raises(ConfigError, match=r"x\.toml: (no valid TOML|nested deeper)"):
        loads(text, name="x.toml")
