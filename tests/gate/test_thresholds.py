"""A file of thresholds: which number holds for which model, and one line for what cannot be used."""

from __future__ import annotations

import hashlib

import pytest

from auditkit.gate.thresholds import ThresholdsError, read_thresholds

pytestmark = pytest.mark.unit

CLAIMS = ["suite/early", "suite/late[a#2]", "other/first"]
GOOD = """
[default]
"suite/early" = { threshold = 0.25, source = "calibration run 2026-11-20", date = 2026-11-20 }
"suite/early#2" = { threshold = 1 }
"suite/late[a#2]" = { threshold = -0.5, date = "spring" }

[family.llama]
"suite/early" = { threshold = 0.2, source = "policy 7" }

[model."smollm2-135m-instruct"]
"suite/early" = { threshold = 0.1, source = "card of the model" }
"""


def read(tmp_path, text):
    path = tmp_path / "limits.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_thresholds(path, CLAIMS)


@pytest.mark.parametrize(
    ("names", "family", "number", "source"),
    [
        ([], "gemma3_text", 0.25, "calibration run 2026-11-20, 2026-11-20 (limits.toml [default])"),
        ([], "llama", 0.2, "policy 7 (limits.toml [family.llama])"),
        (["./x", "smollm2-135m-instruct"], "llama", 0.1,
         "card of the model (limits.toml [model.smollm2-135m-instruct])"),
    ],
)  # fmt: skip
def test_model_goes_before_family_before_default(tmp_path, names, family, number, source):
    chosen = read(tmp_path, GOOD).applying_to(names, family)
    assert chosen["suite/early", 1] == number
    assert chosen["suite/early", 1].source == source
    assert chosen["suite/early", 2] == 1.0
    assert chosen["suite/early", 2].source == "limits.toml [default]"
    assert chosen["suite/late[a#2]", 1].source == "spring (limits.toml [default])"


def test_the_digest_is_that_of_the_file_and_an_empty_file_changes_nothing(tmp_path):
    assert read(tmp_path, GOOD).sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert read(tmp_path, "").applying_to(["x"], "llama") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default\n", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ("[default]\n'suite/early' = { threshold = " + "9" * 5000 + " }", "is not TOML"),
        ("[defaults]", r"\[defaults\] is unknown; use \[default\]"),
        ("family = 1", r"\[family\] is unknown"),
        ("[family]\nllama = 1", r"\[family.llama\]: must be a table"),
        ("default = 1", "must be a table"),
        ("[default]\n'suite/erly' = { threshold = 1 }", "no such claim was collected; did you mean 'suite/early'"),
        ("[default]\n'suite/erly#2' = { threshold = 1 }", "did you mean 'suite/early'"),
        ("[default]\n'suite/early#0' = { threshold = 1 }", "no such claim"),
        ("[model.other]\n'zzz' = { threshold = 1 }", r"\[model.other\] 'zzz': no such claim"),
        ("[default]\n'suite/early' = 1", "no threshold number"),
        ("[default]\n'suite/early' = { source = 'x' }", "no threshold number"),
        ("[default]\n'suite/early' = { threshold = '1' }", "is no number: '1'"),
        ("[default]\n'suite/early' = { threshold = true }", "is no number: True"),
        ("[default]\n'suite/early' = { threshold = nan }", "threshold is nan"),
        ("[default]\n'suite/early' = { threshold = -1e9 }", "threshold is -1e.09, which no effect comes near"),
        ("[default]\n'suite/early' = { threshold = 10000000 }", "give a number between -1e.06 and 1e.06"),
        ("[default]\n'suite/early' = { threshold = -inf }", "threshold is -inf"),
        ("[default]\n'suite/early' = { threshold = 1" + "0" * 400 + " }", "threshold is inf"),
        ("[default]\n'suite/early' = { threshold = 1, sorce = 'x' }", "'sorce' is unknown"),
        ("[default]\n'suite/early' = { threshold = 1, source = 3 }", "source must be text"),
        ("[default]\n'suite/early' = { threshold = 1 }\n'suite/early#1' = { threshold = 2 }", "given twice"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(tmp_path, text, said):
    with pytest.raises(ThresholdsError, match=said) as raised:
        read(tmp_path, text)
    assert "limits.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name):
    with pytest.raises(ThresholdsError, match=r"cannot read thresholds from .*(No such file|Is a directory)"):
        read_thresholds(tmp_path / name, CLAIMS)
