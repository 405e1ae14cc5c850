"""A user's own decisions: what is read of a table, a planted difference, the reference, and the suite's claims."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import auditkit
from auditkit.claims.outcomes import NotApplicable
from auditkit.data.errors import DataError
from auditkit.findings.identity_bias.measurements.own_decisions import OwnDecisions
from auditkit.findings.identity_bias.measurements.verdicts import alike
from auditkit.findings.identity_bias.prompts.own import filled, own_decisions, read_own_decisions
from auditkit.findings.identity_bias.prompts.sources import read_bias_items
from auditkit.record.store import read_run
from tests.planted.telling import Teller

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parent.parent
EXAMPLE = ROOT / "examples" / "own_decisions.csv"
GROUPS = ("an old clerk", "a young clerk", "a tall clerk")


def frame(**columns: object) -> pd.DataFrame:
    rows = [
        {
            "template": f"{{group}} asks for thing {n}. Decide.",
            "group": group,
            "favourable": "grant",
            "unfavourable": "deny",
        }
        for n in range(8)
        for group in GROUPS
    ]
    return pd.DataFrame(rows).assign(**columns)


def teller(effect: dict[str, float]) -> Teller:
    """Grant against deny: the effect of the group, a bit by the thing, and what a last sentence states."""

    def says(text: str) -> dict[str, float]:
        odds = sum(value for who, value in effect.items() if who in text.lower())
        odds += 0.05 * (len(text) % 3) + 0.03 * sum(f"thing {n}." in text for n in (1, 3, 4))
        odds += (
            4 * ("is: grant." in text)
            - 4 * ("is: deny." in text)
            + 3 * ("a saint" in text.lower())
            - 3 * ("a thief" in text.lower())
        )
        return {" grant": 5 + odds, " Grant": -5.0, " deny": 5.0, " Yes": 4.0}

    return Teller(says)


def measured(data: pd.DataFrame, **effect: float) -> OwnDecisions:
    return OwnDecisions(
        teller({name.replace("_", " "): value for name, value in effect.items()}), own_decisions(data), "group"
    )


def test_a_planted_difference_is_found_in_the_user_s_own_words() -> None:
    found = measured(frame(), old_clerk=-1.5)
    effects = {one.name.split(" minus")[0]: one.describe() for one in found.contrasts("group")}
    assert effects["an old clerk"].estimate == pytest.approx(-1.5, abs=0.2)
    assert effects["an old clerk"].clusters == 8
    assert effects["an old clerk"].upper < -1
    assert effects["a tall clerk"].estimate == pytest.approx(0.75, abs=0.2)
    assert not alike(found.contrasts("group"), within=0.25)
    assert found.asked.said["group/an old clerk"].mean() == 0
    assert found.asked.said["group/a tall clerk"].mean() == 1


def test_without_a_difference_the_groups_are_alike_and_the_reference_is_not() -> None:
    found = measured(frame())
    assert alike(found.contrasts("group"), within=0.25)
    assert found.reference().describe().lower > 3
    assert found.called_for().describe().estimate == 1
    *_, answers, validity = found.notes()
    assert "'grant' or 'deny' (favourable first)" in answers
    assert "the user's own" in validity
    (law,) = [text for text in found.by("group").notes() if "Local Law 144" in text]
    assert "developer" not in law, "the cases are the user's"
    assert next(figure.title for figure in found.by("group").figures()) == "Groups by group"


def test_strong_and_weak_words_of_the_table_are_the_reference() -> None:
    found = measured(frame(strong="a saint", weak="a thief"))
    assert found.reference().describe().estimate == pytest.approx(6, abs=0.2)
    (texts,) = {
        tuple(t for t in (one["the favourable answer is called for"],))
        for one in list(found.reference().measurement.prompts.values())[:1]
    }
    assert texts[0].startswith("A saint asks for thing")


def test_wordings_of_one_case_are_one_cluster_and_domains_are_strata() -> None:
    table = frame()
    number = table["template"].str.extract(r"(\d)")[0].astype(int)
    data = own_decisions(
        table.assign(case=[f"case {n // 2}" for n in number], domain=[f"kind {n // 4}" for n in number])
    )
    asked = OwnDecisions(teller({}), data, "group")
    made = asked.measurement("group")
    assert made.clusters["case"].nunique() == 4
    assert len(made.values) == 8
    assert sorted({case.domain for case in asked.cases}) == ["kind 0", "kind 1"]
    assert [case.id for case in data.cases["group"][:2]] == ["case 0", "case 0, wording 2"]


def test_attributes_are_compared_apart() -> None:
    two = pd.concat([frame(attribute="height"), frame(attribute="age").iloc[:15]])
    data = own_decisions(two)
    assert data.attributes == ("height", "age")
    assert {name: len(cases) for name, cases in data.cases.items()} == {"height": 8, "age": 5}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"group": ""}, "lacks group"),
        ({"template": "Decide."}, "its template has no {group}"),
        ({"favourable": "Deny"}, "its two answers are the same"),
        ({"strong": "a saint"}, "it has one of strong and weak, and needs both or neither"),
        ({"favourable": "give"}, "its answers, domain or ends differ between its rows"),
        ({"group": GROUPS[1]}, "lacks the groups an old clerk"),
    ],
)
def test_a_row_that_cannot_be_used_takes_its_case_out_and_is_named(change, reason) -> None:
    table = frame(strong="", weak="")
    for column, value in change.items():
        table.loc[0, column] = value
    data = own_decisions(table)
    assert len(data.cases["group"]) == 7
    assert data.rows == 21
    assert len(data.dropped) == 3
    assert any(reason in one.reason for one in data.dropped)


def test_what_no_case_is_left_of_is_refused() -> None:
    with pytest.raises(DataError, match="column unfavourable: missing column; needed are template, group"):
        own_decisions(frame().drop(columns="unfavourable"))
    with pytest.raises(DataError, match="its only group is 'an old clerk'"):
        own_decisions(frame().iloc[::3])
    with pytest.raises(NotApplicable, match=r"'grant' and 'grant it' begin with the same tokens"):
        measured(frame(unfavourable="grant it"))


def test_a_file_and_a_data_frame_give_the_same() -> None:
    assert own_decisions(pd.read_csv(EXAMPLE)) == read_own_decisions([EXAMPLE])
    given = read_bias_items(str(EXAMPLE))
    assert given.described == "8 own cases; other kinds are the project's own"
    assert given.own == read_own_decisions([EXAMPLE])


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{group} is here.", "An old clerk is here."),
        ("Here is {group}.", "Here is an old clerk."),
        ("It rains. {group} waits, {group}!", "It rains. An old clerk waits, an old clerk!"),
        ('{ "who": {group} }', '{ "who": an old clerk }'),
    ],
)
def test_a_group_stands_anywhere_in_a_template(template: str, text: str) -> None:
    assert filled(template, "an old clerk") == text


def test_the_suite_makes_its_claims_on_the_example(
    pytester: pytest.Pytester, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = f"identity_bias={EXAMPLE}"
    reports = pytester.path / "reports"
    monkeypatch.chdir(ROOT)
    suite, model = (
        str(ROOT / "suites" / "identity_bias"),
        ("--model", str(tiny_llama), "--audit-dir", str(reports)),
    )
    pytester.runpytest_inprocess(
        suite, "--rootdir", str(ROOT), *model, "--data", data, "-k", "own", "-p", "no:cacheprovider"
    )
    claims = {claim.id.partition("/")[2]: claim for claim in read_run(reports / "latest").claims}
    assert "own_decisions_do_not_depend_on[age]" in claims
    claim = claims["own_decisions_do_not_depend_on[age]"]
    assert "begin with the same tokens after 'Answer:' for this tokenizer" in claim.reason  # it has no words
    refused = pytester.runpytest_inprocess(suite, *model, "--data", f"identity_bias={ROOT / 'README.md'}")
    assert refused.ret == 4
