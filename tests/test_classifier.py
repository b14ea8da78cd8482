"""Which classifier an installation has, and whether it fits."""

import pytest

from router.classifier import built_in, configured, misfits
from router.cli import run
from router.config import loads
from router.contract.errors import ConfigError
from router.core.classify import Classifier, Seen
from router.core.tokens import read
from tests.core.classifiers import INTEGRALS, knowing

CONFIG = """
[models.small]
unpriced = true
[models.large]
unpriced = true
[pools.auto]
models = ["small", "large"]
"""


def config(classify=""):
    return loads(CONFIG + classify)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(INTEGRALS.to_bytes())
    return path


def test_without_a_word_it_is_the_one_that_is_shipped(file):
    assert configured(config()).version == built_in().version


@pytest.mark.parametrize(
    "classify", ['[classify]\nmodel = "none"', "[classify]\nrules = [{ name = 'a', any = ['b'] }]"]
)
def test_rules_take_its_place(classify):
    assert configured(config(classify)) is None


def test_a_file_is_read_and_what_is_wrong_with_it_said(file, tmp_path):
    assert configured(config(f'[classify]\nmodel = "{file}"')).version == INTEGRALS.version
    with pytest.raises(ConfigError, match=r"classify\.model: .*absent\.npz: No such file"):
        configured(config(f'[classify]\nmodel = "{tmp_path / "absent.npz"}"'))


def test_what_does_not_fit_the_pools_is_named():
    assert misfits(config(), INTEGRALS) == []
    assert misfits(config(), built_in()) == []
    half = knowing({"small": (0, {}), "other": (0, {})})
    (line,) = misfits(config(), half)
    assert (
        line
        == "pools.auto: the classifier does not know large: no p_ok for them; bands of this pool go by prompt tokens"
    )
    *_, line = misfits(config(), knowing({"other": (0, {})}))
    assert line == "classify.model: was fitted to other: no pool has any of them"


def test_config_check_says_so(tmp_path, capsys):
    stranger = tmp_path / "stranger.npz"
    stranger.write_bytes(knowing({"other": (0, {})}).to_bytes())
    toml = tmp_path / "pointsman.toml"
    toml.write_text(CONFIG + f'[classify]\nmodel = "{stranger}"\n')
    assert run(["config", "check", "--config", str(toml)]) == 0
    assert "was fitted to other: no pool has any of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "task_class"),
    [
        ("Write a Python function that sorts a list of tuples by the second item.", "code"),
        ("What is the probability of rolling two sixes with two dice?", "math"),
        ("Translate this sentence into French: where is the library?", "translate"),
        ("Summarise the following report in three bullet points: sales rose in May.", "summarise"),
        ("I want a refund, the kettle I ordered arrived broken.", "support"),
        ("Write a poem about a lighthouse that is afraid of the dark.", "creative"),
        ("Hello there", "general"),
    ],
)
def test_the_one_that_is_shipped_knows_plain_cases_that_it_was_not_fitted_to(text, task_class):
    artefact = built_in()
    (found,) = Classifier([], artefact.heads).classify([Seen(text, read(text)[1])])
    assert found.task_class == task_class
    assert found.p_ok == {}


def test_the_card_of_the_one_that_is_shipped_says_what_it_was_fitted_to():
    card = built_in().card
    assert card["fitted_on"].startswith("texts written for this project")
    assert card["right_on_templates_left_out"]["all"] > 0.6
