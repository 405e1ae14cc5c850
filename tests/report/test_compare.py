"""Two runs on one page: what got worse comes first, what is not comparable is not subtracted, no text is markup."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import msgspec
import pytest
from hostile import HOSTILE

from auditkit.record.identity import model_digest
from auditkit.record.schema import Change, Claim, CrossCheck, Run, Verdict
from auditkit.report import render_html
from auditkit.report.compare import ClaimInBoth, comparison_code, in_one_line, rows, sentences
from auditkit.report.compare_page import render_comparison
from auditkit.report.compare_terminal import comparison

pytestmark = pytest.mark.unit

replace = msgspec.structs.replace
PASS, FAIL, UNDECIDED, NOT, ERROR = Verdict


class Elements(HTMLParser):
    """Every element with the names of its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, ...]] = []
        self.text, self.ids, self.targets = "", list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.targets += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def became(
    run: Run, was: Verdict | None, now: Verdict | None, comparable: bool = True, **changes: object
) -> ClaimInBoth:
    """One claim with these verdicts."""
    claim = run.claims[0]
    change = Change(verdict=was, comparable=comparable, effects=(), reason="" if comparable else "other data")
    before = () if was is None else (replace(claim, verdict=was),)
    here = () if now is None else (replace(claim, verdict=now, change=change, **changes),)
    (row,) = rows(replace(run, claims=before), replace(run, claims=here))
    return row


@pytest.mark.parametrize(
    ("was", "now", "kind", "code"),
    [
        (PASS, FAIL, "fails now", 1), (UNDECIDED, FAIL, "fails now", 1), (FAIL, FAIL, "still fails", 0),
        (PASS, ERROR, "is broken now", 11), (ERROR, ERROR, "is broken now", 11), (ERROR, PASS, "holds now", 0),
        (PASS, UNDECIDED, "is no longer decided", 10), (FAIL, NOT, "is no longer decided", 10),
        (FAIL, PASS, "no longer fails", 0), (UNDECIDED, NOT, "does not apply", 10), (PASS, PASS, "still holds", 0),
        (ERROR, NOT, "does not apply", 10), (ERROR, UNDECIDED, "is still open", 10),
        (UNDECIDED, PASS, "holds now", 0), (None, FAIL, "is new", 10), (PASS, None, "is not asked", 10),
    ],
)  # fmt: skip
def test_what_became_of_a_claim_decides_the_exit_code(
    sample_run: Run, was: Verdict | None, now: Verdict | None, kind: str, code: int
) -> None:
    row = became(sample_run, was, now)
    assert (row.kind, comparison_code(sample_run, sample_run, [row])) == (kind, code)
    if was is not None and now is not None:
        apart = became(sample_run, was, now, comparable=False)
        assert (apart.kind, comparison_code(sample_run, sample_run, [apart])) == ("is not comparable", 10)


def test_the_worst_decides_and_a_waived_claim_does_not(sample_run: Run, gated_run: Run) -> None:
    waiver = gated_run.claims[2].waiver
    table = [became(sample_run, PASS, verdict) for verdict in (PASS, UNDECIDED, ERROR, FAIL)]
    assert [comparison_code(sample_run, sample_run, table[:n]) for n in range(5)] == [10, 0, 10, 11, 1]
    waived = became(sample_run, PASS, FAIL, waiver=waiver)
    assert comparison_code(sample_run, sample_run, [waived]) == 0
    check = CrossCheck(
        adapter="nnterp", asked=1, offered=1, measured=1, missing={}, largest=1.0, where="mlp 1", allowed=0.1,
        agrees=False, reason="",
    )  # fmt: skip
    distrusted = replace(sample_run, cross_check=check)
    assert comparison_code(distrusted, sample_run, []) == 11
    assert comparison_code(sample_run, distrusted, table) == 11, "a FAIL on such numbers is not shown"


@pytest.fixture
def before(gated_run: Run) -> Run:
    """The baseline of `gated_run`."""
    verdicts = [claim.change.verdict for claim in gated_run.claims]
    claims = [replace(c, verdict=v, change=None) for c, v in zip(gated_run.claims, verdicts, strict=True) if v]
    gone = replace(claims[0], id="persona_patching/old_claim", statement="An old claim.")
    model = replace(gated_run.model, name="Released", weights_sha256="00" * 32)
    return replace(gated_run, claims=(*claims, gone), waivers=(), baseline=None, model=model)


@pytest.fixture
def after(gated_run: Run) -> Run:
    """`gated_run` with a change that belongs to the deciding effect of its first claim."""
    first = gated_run.claims[0]
    moved = replace(first.change.effects[0], name=f"{first.effect.name} minus the baseline")
    claim = replace(first, change=replace(first.change, effects=(moved,)))
    return replace(gated_run, claims=(claim, *gated_run.claims[1:]))


def test_the_page_names_the_parts_in_which_the_models_differ(before: Run, after: Run) -> None:
    identity = {**before.model.identity, "config/rms_norm_eps": "1.0"}
    then = replace(before, model=replace(before.model, identity=identity))
    now = replace(after, baseline=replace(after.baseline, model=then.model))
    text = " ".join(Elements(render_comparison(then, now)).text.split())
    assert "the models differ in: weights; config (rms_norm_eps)" in text
    for model in (then.model, now.model):
        assert model_digest(model) in text
    assert "the models differ in: weights; config (rms_norm_eps)" in " ".join(
        comparison(then, now, rows(then, now))
    )
    page = "".join(Elements(render_html(now)).text.split())
    assert "config/rms_norm_eps1e-05" in page
    assert "config/rms_norm_eps1.0" in page
    old = replace(now, model=replace(now.model, identity={}))
    assert "not known: the record holds no config" in " ".join(Elements(render_html(old)).text.split())
    served = " ".join(
        Elements(render_html(replace(now, model=replace(now.model, weights_sha256="")))).text.split()
    )
    assert served.count("not known: the server that ran the weights states no digest of them") == 2
    assert "No digest of the weights is among these" in served


def test_the_page_shows_both_effects_their_difference_and_why_not(before: Run, after: Run) -> None:
    page = Elements(render_comparison(before, after))
    text = " ".join(page.text.split())
    assert "compared with Released" in text
    assert sentences(before, after, rows(before, after))[0] == (
        "2 claims got worse: 1 is broken now, 1 is no longer decided, and 1 claim cannot be compared."
    )
    first = text.index("2 claims got worse")
    order = ["1 is broken now", "1 is no longer decided", "1 is new", "2 still hold", "1 is not asked"]
    places = [text.index(word, text.index("Claims, what got worse first", first)) for word in order]
    assert places == sorted(places), "what got worse comes first"
    assert "lower −0.0412 [−0.0671, −0.0153]" in text
    assert text.count("0.583 [0.512, 0.652]") >= 2, "there and here"
    apart = text.split("1 is not comparable: other data: persona_patching/a.csv")[1].split("The two runs")[0]
    assert "minus the baseline" not in apart
    assert apart.count("0.232 [0.148, 0.315]") == 2, "both are shown, and nothing is subtracted"
    assert "seed was 0, is 20250711" in text
    assert "An old claim." in text
    assert "weights sha256 differs" in text
    assert len(set(page.ids)) == len(page.ids)
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)


def test_the_same_two_runs_give_the_same_page_without_scripts(before: Run, after: Run) -> None:
    page = render_comparison(before, after)
    assert page == render_comparison(before, after)
    assert 'style="' not in page
    assert re.findall(r"<script(?! type=\"application/json\")", page) == []


@pytest.mark.parametrize("text", HOSTILE[::7])
def test_hostile_text_stays_text(before: Run, after: Run, text: str) -> None:
    def changed(run: Run, word: str) -> Run:
        claims: list[Claim] = []
        for claim in run.claims:
            effect = claim.effect and replace(claim.effect, unit=f"{word}u")
            change = claim.change and replace(claim.change, reason=f"{word} {claim.change.reason}")
            moved = {"effect": effect, "change": change, "statement": f"{word} s", "reason": word}
            claims.append(replace(claim, id=f"{word}{claim.id}", **moved))
        model = replace(run.model, name=f"{word}m", source=f"{word}s", spec=f"{word}/x")
        baseline = run.baseline and replace(run.baseline, plan_differences=(word,), run=word)
        summary = replace(run.summary, reason=word)
        return replace(run, claims=tuple(claims), model=model, baseline=baseline, summary=summary)

    hostile = Elements(render_comparison(changed(before, text), changed(after, text)))
    harmless = Elements(render_comparison(changed(before, "x"), changed(after, "x")))
    assert hostile.found == harmless.found
    lines = "".join(comparison(changed(before, text), changed(after, text), rows(before, after)))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\ud800-\udfff]", lines)


def test_the_terminal_says_the_same(before: Run, after: Run) -> None:
    table = rows(before, after)
    lines = list(comparison(before, after, table))
    assert " ".join(lines).startswith(sentences(before, after, table)[0])
    assert in_one_line(table) == (
        "1 is broken now, 1 is no longer decided, 1 is not comparable, 1 is new, 2 still hold, 1 is not asked"
    )
    text = "\n".join(lines)
    assert f"Of 7 claims {in_one_line(table)}." in " ".join(lines)
    assert "1 is not comparable: other data: persona_patching/a.csv\n  persona_patching/" in text
    assert max(map(len, lines)) <= 100


def test_two_runs_without_claims(empty_run: Run, after: Run) -> None:
    now = replace(empty_run, baseline=after.baseline)
    assert "Nothing was compared: neither run holds a claim." in render_comparison(empty_run, now)
    assert comparison_code(empty_run, now, []) == 10


@pytest.mark.slow
def test_5000_claims_can_be_compared(before: Run, after: Run) -> None:
    def many(run: Run) -> Run:
        claims = [run.claims[i % 6] for i in range(5000)]
        return replace(run, claims=tuple(replace(c, id=f"s/c{i}", figures=()) for i, c in enumerate(claims)))

    started = time.process_time()
    page = render_comparison(many(before), many(after))
    assert time.process_time() - started < 60, "some step takes time that grows with the square of the claims"
    assert len(Elements(page.split("<footer>")[0]).found) > 50_000
