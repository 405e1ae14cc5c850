"""A pytest run that does not use auditkit is left alone. Each run is a fresh process, as a user's would be."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.unit

HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "jinja2", "msgspec", "matplotlib")


def test_no_output_no_file_no_heavy_import(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # what other plugins import is not our doing
    pytester.makepyfile(
        f"""
        import sys

        def test_light():
            assert not set({HEAVY}) & set(sys.modules)
        """
    )
    with_plugin = pytester.runpytest_subprocess("-p", "auditkit.pytest_plugin.entry")
    with_plugin.assert_outcomes(passed=1)
    text = with_plugin.stdout.str()
    assert "audit of" not in text
    assert not (pytester.path / "reports").exists()


def test_a_project_keeps_its_own_model_option_and_fixture(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        def pytest_addoption(parser):
            parser.addoption("--model", default="theirs")
            parser.addoption("--seed", default="7")

        @pytest.fixture
        def model(request):
            return request.config.getoption("--model")
        """
    )
    pytester.makepyfile(
        """
        def test_theirs(model, request):
            assert model == "mine"
            assert request.config.getoption("--seed") == "8"
        """
    )
    result = pytester.runpytest_subprocess("--model", "mine", "--seed=8")
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "reports").exists()


def test_collect_only_opens_no_model(pytester: pytest.Pytester) -> None:
    pytester.makepyfile('def test_claim(model):\n    """A claim."""')
    result = pytester.runpytest_subprocess("--collect-only", "-q")
    assert result.ret == 0
    assert not (pytester.path / "reports").exists()


def test_the_plugin_can_be_kept_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_ordinary(): pass")
    result = pytester.runpytest_subprocess("-p", "no:auditkit")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["--model", "--audit-model"])
def test_unknown_model_is_refused_before_anything_heavy_is_loaded(pytester: pytest.Pytester, option: str) -> None:
    pytester.makeconftest(
        f"""
        import sys

        def pytest_unconfigure():
            assert not set({HEAVY[:2]}) & set(sys.modules)
        """
    )
    pytester.makepyfile('def test_claim(model):\n    """A claim."""')
    result = pytester.runpytest_subprocess(option, "gpt5")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: unknown model 'gpt5'*"])
