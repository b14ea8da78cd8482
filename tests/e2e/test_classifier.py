"""A classifier swapped while everything runs: by one command, within seconds, and every decision can still be made again."""

import pytest

from benchmarks.system import PATIENCE_S, request, wait_for
from router.classifier import built_in
from tests.core.classifiers import INTEGRALS

SIGNED = ("--by", "a test", "--reason", "to see it swapped")


@pytest.fixture
def asked(system):
    """Asks for an integral, and returns the decision."""
    count = iter(range(1000))

    def ask():
        custom_id = f"classified-{next(count)}"
        system.produce("requests", [request(custom_id, text="integral", tenant="classified")])

        def found():
            return [one for one in system.values("decisions") if one["tenant"] == "classified"]

        before = next(numbers)
        assert wait_for(lambda: len(found()) > before, PATIENCE_S)
        return found()[-1]

    numbers = iter(range(1000))
    return ask


def test_it_is_swapped_live_and_back(system, asked, tmp_path):
    file = tmp_path / "m.npz"
    file.write_bytes(INTEGRALS.to_bytes())
    assert asked()["stratum"].split("/")[0] in built_in().heads.classes

    done = system.run("classifier", "use", str(file), *SIGNED)
    assert done.returncode == 0, done.stderr
    assert INTEGRALS.version in done.stdout
    assert wait_for(lambda: asked()["stratum"] == "math/hard", 10, every_s=0.5)
    assert INTEGRALS.version in system.run("classifier", "show").stdout
    assert "by a test: to see it swapped" in system.run("classifier", "show").stdout

    file.write_bytes(b"no classifier")
    done = system.run("classifier", "use", str(file), *SIGNED)
    assert done.returncode == 2
    assert "m.npz: no classifier" in done.stderr

    assert system.run("classifier", "reset", *SIGNED).returncode == 0
    assert wait_for(lambda: asked()["stratum"] != "math/hard", 10, every_s=0.5)
    assert "as configured" in system.run("classifier", "show").stdout
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
