"""The page shows the whole run, in a document that nothing inside the run can change."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hostile import HOSTILE, Document, level, prompts_as_shown, replace_text, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.record.canonical import canonical
from auditkit.record.escaping import document, shell_join
from auditkit.record.figures import drawing_of
from auditkit.record.schema import Run
from auditkit.report import page as page_module
from auditkit.report import render_html, wording
from auditkit.report.figures.drawing import as_columns, numbers_of
from auditkit.report.page import bare
from tests.report.conftest import build_run

pytestmark = pytest.mark.unit


def check_hostile(run: Run, text: str) -> None:
    hostile = replace_text(run, lambda old: f"{text} {old}")
    page = Document(render_html(hostile))
    harmless = Document(render_html(replace_text(run, lambda old: f"x {old}")))
    assert page.elements == harmless.elements, "no element and no attribute but ours"
    assert {tag for tag, _ in page.plot} <= {
        "svg",
        "title",
        "desc",
        "g",
        "path",
        "defs",
        "use",
        "text",
        "rect",
        "clippath",
    }
    assert not [name for _, names in page.plot for name in names if name == "style" or name.startswith("on")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name in {"href", "src"})
    assert len(set(page.ids)) == len(page.ids)
    said, once = level(page.text), prompts_as_shown(hostile)
    for expected in texts_of(hostile):
        assert level(document(once.get(expected, expected))) in said
    assert document(shell_join(canonical(hostile).command)) in page.text
    stored = replace_text(hostile, lambda old: re.sub("[\ud800-\udfff]", "\ufffd", old))
    assert page.run == (bare(stored) if page.packed else stored)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(sample_run: Run, text: str) -> None:
    check_hostile(sample_run, text)


def test_hostile_text_in_baselines_and_waivers_stays_text(gated_run: Run) -> None:
    for text in HOSTILE[:12]:
        check_hostile(gated_run, text)


@settings(max_examples=20, deadline=None)
@given(text=st.text(st.characters(exclude_categories=()) | st.sampled_from("<>&\"'{}%$`\\")))
def test_any_text_stays_text(text: str) -> None:
    check_hostile(SMALL, text)


def test_page_is_complete(sample_run: Run) -> None:
    """Digests that the plan's covers stand by their first digits."""
    page, plan = Document(render_html(sample_run)), sample_run.plan
    covered = {*plan.claims.values(), *plan.data.values(), *plan.code.values()}
    assert covered
    once = prompts_as_shown(sample_run)
    for text in texts_of(sample_run):
        said = once.get(text, text)
        assert (said[:16] if said in covered and len(said) == 64 else said) in page.text
    for claim in sample_run.claims:
        for effect in wording.effects_of(claim):
            for value in (effect.estimate, effect.n, effect.clusters, effect.threshold):
                assert value is None or wording.number(value) in page.text
            assert effect.lower is None or wording.interval(effect) in page.text
        for effect in [claim.effect, *claim.also]:
            for value in () if effect is None else (effect.standardized, effect.mde):
                assert value is None or wording.number(value) in page.text
            if effect is not None and effect.items_range is not None:
                assert wording.items_needed(effect) in page.text
        for example in claim.examples:
            assert all(wording.number(value) in page.text for value in example.values.values())
        for figure in claim.figures:
            assert all(as_columns(table).lines in page.text for table in numbers_of(drawing_of(figure)))
    assert "needs 1.5 to 10 times the clusters of topic" in page.text
    assert re.search(r"\b(nan|inf|None|Undefined)\b", page.text) is None


def test_structure_is_accessible(sample_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Document(render_html(sample_run))
    monkeypatch.setattr(page_module, "shortened", lambda text: text)
    whole = Document(render_html(sample_run))
    assert all("scope" in names for tag, names in whole.elements if tag == "th"), (
        "before those that HTML implies go"
    )
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["h1"] == tags["main"] == tags["footer"] == tags["nav"] == 1
    assert tags["script"] == 2, "the record and the page's own script"
    assert tags["style"] == 1
    assert all({"role", "aria-hidden"} & set(names) for tag, names in page.elements + page.plot if tag == "svg")
    assert ("html", "lang", "en") in page.attributes
    assert not [name for _, names in page.elements for name in names if name == "style" or name.startswith("on")]
    targets = {value[1:] for _, name, value in page.attributes if name == "href"}
    assert targets - set(page.ids) == set(), "every link leads somewhere"


def test_json_decodes_to_the_identical_run(sample_run: Run) -> None:
    assert Document(render_html(sample_run)).run == sample_run


def test_same_run_gives_same_bytes(sample_run: Run, tmp_path: Path) -> None:
    """Also in another process with other hashes; and importing the package draws in no plotting library."""
    html = render_html(sample_run)
    assert render_html(sample_run) == html
    (tmp_path / "audit.json").write_bytes(msgspec.json.encode(sample_run))
    script = (
        "import sys, pathlib, auditkit.report as report, auditkit.record.store as store\n"
        "assert 'matplotlib' not in sys.modules\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "print(report.write_outputs(folder, store.read_run(folder)).name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        env={
            "PYTHONHASHSEED": "7",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PATH": "",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "audit.html\n", done.stderr
    assert (tmp_path / "audit.html").read_text("utf-8") == html


def test_empty_run(empty_run: Run) -> None:
    page = Document(render_html(empty_run))
    assert "the run holds no claims" in page.text
    assert "INCONCLUSIVE" in page.text


def test_claims_that_share_an_id_keep_their_own_anchor(sample_run: Run) -> None:
    claims = (
        *sample_run.claims,
        *(msgspec.structs.replace(one, reason="again") for one in sample_run.claims),
    )
    page = Document(render_html(msgspec.structs.replace(sample_run, claims=claims)))
    assert len(set(page.ids)) == len(page.ids)


def test_remote_code_is_shown_in_the_strip(sample_run: Run) -> None:
    assert "trust_remote_code is on" not in render_html(sample_run)
    model = msgspec.structs.replace(sample_run.model, trust_remote_code=True)
    page = render_html(msgspec.structs.replace(sample_run, model=model))
    assert "<li class=danger>" in page
    assert "own code ran during this audit" in page


def test_large_run_stays_small(many_claims_run: Run) -> None:
    assert len(render_html(many_claims_run).encode()) < 2_000_000


def test_colours_have_contrast() -> None:
    """Text on its background keeps 4.5:1, in the light and in the dark set."""
    style = (Path(sys.modules["auditkit.report"].__file__ or "").parent / "templates/style.css").read_text("utf-8")
    sets = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(sets) == 3

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for colours in sets:
        pairs = [(text, ground) for text in ("ink", "soft", "link", "fail") for ground in ("page", "panel")]
        pairs += [
            (name, f"{name}-bg") for name in ("pass", "fail", "inconclusive", "not_applicable", "error", "against")
        ]
        for text, ground in pairs:
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def _small() -> Run:
    """The sample without its figure: drawing is the slow part and has tests of its own."""
    run = build_run()
    return msgspec.structs.replace(
        run, claims=tuple(msgspec.structs.replace(one, figures=()) for one in run.claims)
    )


SMALL = _small()
