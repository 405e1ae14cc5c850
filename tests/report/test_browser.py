"""The page in a real browser: nothing in a run executes, everything is there, and eyes, keys and paper can use it."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hostile import HOSTILE, Document, level, prompts_as_shown, replace_text, texts_of

from auditkit.record.canonical import canonical
from auditkit.record.escaping import document
from auditkit.record.figures import Dot, DotGroup, Dots, Heatmap, Image, Intersection, Sets, Table
from auditkit.record.schema import Figure, Run, Verdict
from auditkit.report import page as page_module
from auditkit.report import render_html, wording
from auditkit.report.compare_page import render_comparison
from auditkit.report.page import bare
from auditkit.report.several.page import render_several

pytestmark = pytest.mark.unit

OPEN_ALL = "document.querySelectorAll('details').forEach((box) => (box.open = true))"
NODE = Path(__file__).with_name("node")


def _version(package: Path) -> str | None:
    described = package / "package.json"
    return json.loads(described.read_text())["version"] if described.is_file() else None


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Folder of the npm packages that pages are checked with."""
    found = NODE / "node_modules"
    wanted = json.loads((NODE / "package.json").read_text())["devDependencies"]
    if any(_version(found / name) != version for name, version in wanted.items()):
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed")
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        try:
            subprocess.run(command, cwd=NODE, check=True, capture_output=True, timeout=120)
        except (subprocess.SubprocessError, OSError):
            pytest.skip("npm cannot install axe-core and html-validate here")
    return found


def every_kind() -> tuple[Figure, ...]:
    cells = [[0.5, -0.25, None], [0.125, 0.75, -1.0]]
    ages = DotGroup("age", [Dot("young", 0.1, 0.0, 0.2), Dot("old", None, None, None)])
    rows = [["women", 40, "yes"], ["men", None, "no"]]
    shared = [Intersection([0, 1], 2, 1.5)]
    names = ["0", "1", "2"]
    return (
        Heatmap(
            "head", "layer", "restored", "Each cell is a head.", names, names[:2], cells,
            outlined=[(0, 0)], scale="centred",
        ).titled("Heads"),
        Dots("logits", "Each dot is a group.", [ages], 0.0).titled("Groups"),
        Table("Each row is a group.", ["group", "n", "said"], rows).titled("Counts"),
        Sets("units", "Each column is an overlap.", ["age", "gender"], [3, 4], shared).titled("Overlap"),
    )  # fmt: skip


@pytest.fixture
def full_run(gated_run: Run) -> Run:
    """A run with everything that the page can show."""
    first = msgspec.structs.replace(gated_run.claims[0], figures=gated_run.claims[0].figures + every_kind())
    return msgspec.structs.replace(gated_run, claims=(first, *gated_run.claims[1:]))


def test_an_image_is_embedded_and_shown(opened: Any, sample_run: Run) -> None:
    """Under the page's own policy, with a text for those who cannot see it that stays a text."""
    alt = 'one "dot" onerror=alert(1) <b>'
    dot = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    )
    pictured = msgspec.structs.replace(
        sample_run.claims[0], figures=(Image.of(dot, caption="A dot.", alt=alt).titled("Dot"),)
    )
    with opened(render_html(msgspec.structs.replace(sample_run, claims=(pictured,)))) as page:
        shown = page.evaluate("[...document.images].map((i) => [i.naturalWidth, i.alt, i.src.slice(0, 22)])")
        assert shown == [[1, alt, "data:image/png;base64,"]]
        assert "A dot." in page.content()


# -- hostile text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False])
def test_nothing_in_a_run_executes_and_nothing_is_lost(opened: Any, full_run: Run, scripts: bool) -> None:
    hostile = replace_text(full_run, lambda old: " ".join([*HOSTILE, old]))
    html = render_html(hostile)
    title = f"{wording.WORDS[hostile.summary.verdict]} – audit of"
    with opened(html, java_script_enabled=scripts) as page:
        assert page.title().startswith(title)
        assert "executed" not in page.title().removeprefix(title)[:9]
        # What the parser made of the document, before and after the page's own script.
        mine, found = Document(html), Document(page.content())
        added = Counter(found.elements) - Counter(mine.elements)
        assert not Counter(mine.elements) - Counter(found.elements) or scripts
        assert {tag for tag, _ in added} <= (
            {"a", "button", "span", "p", "form", "th", "div", "pre"} if scripts else set()
        )
        said = level(found.text)
        once = prompts_as_shown(hostile)
        for text in set(texts_of(hostile)):
            expected = document(once.get(text, text)).replace("\r\n", "\n").replace("\r", "\n")
            assert level(expected) in said
        assert found.run == mine.run
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate(
                "document.querySelectorAll('details').forEach((box) => (box.open = true))"
            ) if scripts else None
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True, width


def test_each_hostile_text_alone_changes_no_element(opened: Any, sample_run: Run) -> None:
    """One page per text, read by the browser's own parser into a document that runs nothing."""
    small = msgspec.structs.replace(sample_run, claims=tuple(
        msgspec.structs.replace(claim, figures=()) for claim in sample_run.claims[:3]
    ))  # fmt: skip
    shape = """(pages) => pages.map((html) => {
        const parsed = new DOMParser().parseFromString(html, "text/html");
        return [...parsed.querySelectorAll("*")].map((e) => e.tagName + [...e.attributes].map((a) => a.name)).join();
    })"""
    texts = ["x", *HOSTILE]
    with opened(render_html(small)) as page:
        shapes = page.evaluate(
            shape, [render_html(replace_text(small, lambda old, t=t: f"{t} {old}")) for t in texts]
        )  # type: ignore[misc]
    plain = {shape.replace(",data-encoding", "").replace(",BDI", "") for shape in shapes}
    assert len(plain) == 1


# -- use -------------------------------------------------------------------------------------------------------


def test_filters_by_verdict_suite_and_text(opened: Any, full_run: Run) -> None:
    with opened(render_html(full_run)) as page:
        said = page.locator("#filter-result")
        asides = page.locator(".suite > :is(.lead, .source, .nearest, .key, .legend):visible")
        every = asides.count()
        assert every > 0
        page.check("input[value=pass]")
        page.wait_for_function("() => document.querySelector('#filter-result').textContent.startsWith('2 of 6')")
        assert page.locator("details.claim:visible").count() == 2
        assert page.locator(".suite .forests tbody tr:not(.group):visible").count() == 2
        assert page.locator(".suite:visible").count() == 1
        assert asides.count() == 0, "a filter leaves of a suite its question, intervals and claims"
        page.fill("input[name=text]", "MLP 0.06")
        page.wait_for_function("() => document.querySelector('#filter-result').textContent.startsWith('1 of 6')")
        page.reload()
        assert said.inner_text() == "1 of 6 claims are shown.", "the filter is in the address"
        page.click("text=Show all")
        page.wait_for_function("() => document.querySelector('#filter-result').textContent.startsWith('All 6')")
        assert asides.count() == every
        page.select_option("select[name=suite]", label="composition")
        page.wait_for_function("() => document.querySelector('#filter-result').textContent.startsWith('2 of 6')")
        page.emulate_media(media="print")
        page.evaluate(OPEN_ALL)
        assert page.locator("details.claim:visible").count() == 6, "paper shows the whole run"
        assert asides.count() >= every


def test_sorts_and_goes_back_to_the_suites(opened: Any, full_run: Run) -> None:
    with opened(render_html(full_run)) as page:
        rows = "[...document.querySelectorAll('.suite')].map((suite) => suite.innerText)"
        places = (
            "[...document.querySelectorAll('#suite-1 .forests [data-distance]')]"
            ".map((cell) => Number(cell.dataset.distance))"
        )
        before = page.evaluate(rows)
        page.select_option("select[name=order]", "distance")
        assert page.evaluate(places) == sorted(page.evaluate(places)), "the furthest on the wrong side comes first"
        assert page.evaluate(rows) != before
        assert "order=distance" in page.url
        page.reload()
        assert page.evaluate(places) == sorted(page.evaluate(places)), "the order is in the address"
        page.select_option("select[name=order]", "change")
        first = page.locator("#suite-1 .forests tbody tr:not(.group)").first.inner_text()
        assert "early mlps carry the persona" in first, "the only one whose change has an interval"
        page.select_option("select[name=order]", "")
        assert page.evaluate(rows) == before


def test_links_open_what_they_lead_to(opened: Any, full_run: Run) -> None:
    with opened(render_html(full_run)) as page:
        for href in page.eval_on_selector_all(
            "a[href^='#']", "(links) => [...new Set(links.map((a) => a.getAttribute('href')))]"
        ):
            page.evaluate("(href) => (location.hash = href)", href)
            page.wait_for_function(
                "(href) => { const box = document.getElementById(href.slice(1)).getBoundingClientRect(); "
                "return box.height > 0 && box.top < innerHeight && box.bottom > 0 }",
                arg=href,
            )
        page.check("input[value=fail]")
        page.wait_for_function("() => document.querySelector('#filter-result').textContent.startsWith('1 of 6')")
        target = page.get_attribute(".suite .forests tbody a", "href")
        page.evaluate("(href) => (location.hash = href)", target)
        page.wait_for_selector(f"{target}:visible")


def test_copies_the_command_and_saves_the_record(opened: Any, full_run: Run) -> None:
    big = msgspec.structs.replace(full_run, untested=full_run.untested * 3000)
    for run in (full_run, big):
        with opened(render_html(run), accept_downloads=True) as page:
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            page.locator("details.claim > summary").first.click()
            command = page.locator("pre.command:visible").first
            page.locator("button.copy:visible").first.click()
            page.wait_for_selector("text=copied")
            assert page.evaluate("navigator.clipboard.readText()") == command.inner_text()
            with page.expect_download() as download:
                page.click("#save")
            saved = Path(download.value.path()).read_bytes()
            whole = canonical(run)
            assert msgspec.json.decode(saved, type=Run) == (whole if run is full_run else bare(whole))


def test_everything_is_reached_by_keyboard(opened: Any, full_run: Run) -> None:
    """Tab passes every link, button and field in the order of the page; Enter and Space work them."""
    names = (
        "(e) => e.tagName + ' ' + "
        "(e.getAttribute('href') || `${e.name || ''}${e.value || ''}` || e.id || e.textContent.slice(0, 30))"
    )
    with opened(render_html(full_run)) as page:
        wanted = page.evaluate(
            "() => [...document.querySelectorAll('a[href], button, input, select, summary')]"
            f".filter((e) => e.checkVisibility() && !e.hidden).map({names})"
        )
        reached = []
        for _ in range(2 * len(wanted)):
            page.keyboard.press("Tab")
            name = page.evaluate(f"(({names})(document.activeElement))")
            if name.startswith("BODY"):
                break
            reached.append(name)
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{name} has the focus and does not show it"
        fields = ("A ", "BUTTON ", "INPUT ", "SELECT ", "SUMMARY ")
        assert [name for name in reached if name.startswith(fields)] == wanted
        page.focus("input[value=fail]")
        page.keyboard.press("Space")
        page.wait_for_function("() => document.querySelector('#filter-result').textContent.startsWith('1 of 6')")
        summary = page.locator("details.claim:visible > summary").first
        was = page.locator("details.claim[open]").count()
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("details.claim[open]").count() == was + 1
        page.keyboard.press("Control+Home")
        page.focus(".skip")
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#content"


# -- what a new user comes for: each in at most two clicks --------------------------------------------------------


@pytest.fixture
def gate_run(gated_run: Run) -> Run:
    """A gate that blocks: a check got worse, one is open, and groups of which one is worst off."""
    source = "Whether the candidate is worse than its baseline: the release gate."
    claims = [msgspec.structs.replace(claim, source=source) for claim in gated_run.claims]
    [worst] = [claim for claim in claims if claim.verdict is Verdict.FAIL]
    group = msgspec.structs.replace(worst.effect, name="disabled minus other groups, favourable decision")
    claims[claims.index(worst)] = msgspec.structs.replace(worst, effect=group, waiver=None)
    return msgspec.structs.replace(gated_run, claims=tuple(claims))


SEEN = "(e) => { const b = e.getBoundingClientRect(); return b.height > 0 && b.top < innerHeight && b.bottom > 0 }"


def test_whether_to_ship_is_seen_without_a_click(opened: Any, gate_run: Run) -> None:
    with opened(render_html(gate_run), viewport={"width": 1400, "height": 900}) as page:
        assert page.locator("h1").inner_text().startswith("Not ready: 1 of ")
        for row in page.locator(".scorecard tbody tr").all():
            assert row.evaluate("(e) => e.getBoundingClientRect().bottom <= innerHeight")


def test_the_worst_group_is_one_click_away(opened: Any, gate_run: Run) -> None:
    with opened(render_html(gate_run), viewport={"width": 1400, "height": 900}) as page:
        page.click(".scorecard a >> nth=0")
        worst = page.locator(".nearest >> nth=0")
        assert worst.evaluate(SEEN)
        assert "disabled minus other groups" in worst.inner_text()
        assert "0.232 [0.148, 0.315] logit" in worst.inner_text()


def test_how_sure_is_seen_without_a_click_and_for_each_claim_with_one(opened: Any, gate_run: Run) -> None:
    with opened(render_html(gate_run), viewport={"width": 1400, "height": 900}) as page:
        assert "[0.148, 0.315]" in page.locator(".scorecard tbody tr >> nth=0").inner_text()
        page.click(".scorecard a >> nth=0")
        rows = page.locator("#suite-1 .forests tbody tr:not(.group)")
        assert rows.count() == 4
        assert all("[" in text for text in rows.all_inner_texts())


def test_what_would_decide_is_two_clicks_away(opened: Any, gate_run: Run) -> None:
    with opened(render_html(gate_run), viewport={"width": 1400, "height": 900}) as page:
        page.click(".scorecard a >> nth=0")
        page.locator("#suite-1 .forests tbody tr", has_text="still open").locator("a").click()
        said = page.locator(".decides:visible")
        assert said.inner_text() == (
            "What would decide: needs 1.5 to 10 times the clusters of topic (12 now), and as many times the runs."
        )


@pytest.mark.parametrize("scripts", [True, False])
def test_repeating_a_claim_is_two_clicks_away(opened: Any, gate_run: Run, scripts: bool) -> None:
    """Also without the script: a link into a closed part opens it."""
    with opened(
        render_html(gate_run), viewport={"width": 1400, "height": 900}, java_script_enabled=scripts
    ) as page:
        page.click(".scorecard a >> nth=0")
        page.locator("#suite-1 .forests tbody tr", has_text="blocks").locator("a").click()
        command = page.locator("pre.command:visible").first
        assert command.inner_text().startswith("pytest suites/persona_patching -k neutral_personas_change_nothing")


# -- looks -----------------------------------------------------------------------------------------------------


def test_paper_has_every_claim_with_its_reason_and_no_colour(opened: Any, full_run: Run) -> None:
    """And a line that says what it leaves out: what is folded, unless a reader opens it first."""
    for scripts in (True, False):
        with opened(render_html(full_run), java_script_enabled=scripts) as page:
            text = " ".join(_pdf_text(page.pdf(format="A4")).split())
            shown = [
                "Signature",
                "0.583",
                "This print leaves out what is folded on the page",
                full_run.plan_sha256,
            ]
            shown += [word for claim in full_run.claims for word in (claim.statement, claim.reason)]
            assert [words for words in shown if words not in text] == []
            folded = ("Measure this claim again", "Each cell is a head", "Wrong donor")
            assert [words for words in folded if words in text] == []
            page.evaluate("document.querySelectorAll('details.claim').forEach((box) => (box.open = true))")
            text = _pdf_text(page.pdf(format="A4"))
            assert [words for words in folded if words not in text] == [], "what is opened is printed"
            page.emulate_media(media="print", color_scheme="dark")
            assert page.locator(".scorecard thead th").all_inner_texts()[:2] == ["Question and answer", "Verdict"]
            assert page.locator("button:visible").count() == 0
            looks = page.locator(".verdict").first
            style = "(e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
            assert looks.evaluate(style) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


def _pdf_text(pdf: bytes) -> str:
    """The words of a PDF; empty strings where this machine has no reader for them."""
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("pdftotext is not installed")
    done = subprocess.run([reader, "-raw", "-", "-"], input=pdf, capture_output=True, check=True)
    return done.stdout.decode()


def every_page(run: Run) -> list[str]:
    """The page of the run, that of the run beside itself, and that of several runs."""
    other = msgspec.structs.replace(run, seed=run.seed + 1, claims=run.claims[1:])
    return [render_html(run), render_comparison(run, run), render_several([run, other, run])]


ROWS = ".scorecard tbody tr, .claim > summary, .controls tbody tr, .forests tbody tr:not(.group), .statistics tbody tr"
OVERLAPS = """(rows) => [...document.querySelectorAll(rows)].filter(
  (row) => {
    const parts = [...row.children].map((cell) => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return [...range.getClientRects()].filter((box) => box.width > 0);
    });
    return parts.some((boxes, place) => parts.slice(place + 1).some((others) => boxes.some((a) => others.some((b) =>
      a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1))));
  }).map((row) => row.textContent.slice(0, 80))"""
"""Rows in which the text of one part runs into that of another."""


def test_nothing_overlaps_and_nothing_leaves_the_page_at_any_width(opened: Any, full_run: Run) -> None:
    longest = (
        "document.querySelectorAll('.forests .verdict').forEach((word) => (word.textContent = 'NOT APPLICABLE'))"
    )
    with opened(render_html(full_run)) as page:
        page.evaluate(OPEN_ALL)
        page.evaluate(longest)
        for width in (360, 390, 768, 961, 1200, 1400, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True, width
            assert page.evaluate(OVERLAPS, ROWS) == [], width
        page.set_viewport_size({"width": 690, "height": 900})
        page.emulate_media(media="print")
        assert page.evaluate(OVERLAPS, ROWS) == [], "as wide as the text of A4"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_left_out(opened: Any, node_modules: Path, full_run: Run, scheme: str) -> None:
    """axe-core finds nothing of any weight, with everything opened, in both colour sets and on a phone."""
    script = (node_modules / "axe-core" / "axe.min.js").read_text("utf-8")
    for width, html in itertools.product((1280, 390), every_page(full_run)):
        size = {"width": width, "height": 900}
        with opened(html, color_scheme=scheme, viewport=size, bypass_csp=True) as page:
            page.evaluate(OPEN_ALL)
            page.evaluate(script)
            found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
            assert {rule["id"]: [n["html"][:200] for n in rule["nodes"][:3]] for rule in found["violations"]} == {}


def test_the_document_is_valid_html(
    node_modules: Path, full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all its end tags: html-validate does not know which of them HTML implies."""
    monkeypatch.setattr(page_module, "shortened", lambda text: text)
    node = shutil.which("node")
    assert node is not None
    rules = {
        "extends": ["html-validate:standard"],
        "rules": {
            "no-inline-style": "error",
            "void-style": "off",
            "long-title": "off",  # a model's name may be long
            "attribute-boolean-style": "off",
            "no-trailing-whitespace": "off",
        },
    }
    (tmp_path / ".htmlvalidate.json").write_text(json.dumps(rules))
    pages = [tmp_path / "audit.html", tmp_path / "diff.html", tmp_path / "compare.html"]
    for page, html in zip(pages, every_page(replace_text(full_run, lambda old: f"{old} <b>&\"' 🙂")), strict=True):
        page.write_text(html, "utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text("<!DOCTYPE html><p id=a><p id=a>", "utf-8")
    program = node_modules / "html-validate" / "bin" / "html-validate.mjs"
    command = [node, program, "--config", tmp_path / ".htmlvalidate.json", "--formatter", "json", *pages, broken]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    if not done.stdout.strip():
        pytest.skip(f"html-validate does not run on this node: {done.stderr[:200]}")
    found = {Path(file["filePath"]).name: file["messages"] for file in json.loads(done.stdout)}
    assert "no-dup-id" in {message["ruleId"] for message in found["broken.html"]}, "the validator looks"
    assert [
        f"{page.name}: {m['ruleId']}: {m['message']} ({m['line']}:{m['column']})"
        for page in pages
        for m in found.get(page.name, [])
    ] == []


def test_a_page_without_implied_end_tags_is_the_same_document(
    opened: Any, full_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the scopes of heads of tables, without which the browser finds the same heads."""
    short = render_html(full_run)
    monkeypatch.setattr(page_module, "shortened", lambda text: re.sub(r">\n+<", "><", text))
    long = render_html(full_run)
    assert len(short) < len(long)
    parsed = """(html) => {
        const parsed = new DOMParser().parseFromString(html, "text/html");
        for (const head of parsed.querySelectorAll("[scope=row], [scope=col]")) head.removeAttribute("scope");
        return parsed.documentElement.outerHTML;
    }"""
    heads = []
    for html in (short, long):
        with opened(html, java_script_enabled=False) as page:
            page.evaluate(OPEN_ALL)
            tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
            roles = [(node["role"]["value"], node.get("name", {}).get("value")) for node in tree if "role" in node]
            heads.append([role for role in roles if role[0] in ("rowheader", "columnheader", "cell")])
            shapes = page.evaluate(parsed, short), page.evaluate(parsed, long)
    assert shapes[0] == shapes[1]
    assert {"rowheader", "columnheader", "cell"} == {role for role, _ in heads[0]}
    assert heads[0] == heads[1]


# -- size and speed --------------------------------------------------------------------------------------------


def test_the_page_of_a_default_run_is_not_too_tall_when_folded(opened: Any) -> None:
    """The committed example, which `make examples` writes."""
    page_of = Path(__file__).parents[2] / "reports" / "examples" / "audit" / "audit.html"
    with opened(page_of.read_text("utf-8"), viewport={"width": 1400, "height": 900}) as page:
        assert page.evaluate("document.documentElement.scrollHeight") <= 25_000
        rows = page.locator(".scorecard tbody tr").all()
        assert len(rows) == len(list((Path(__file__).parents[2] / "suites").glob("*/conftest.py"))), "every suite"
        for row in rows:
            assert row.evaluate("(e) => e.getBoundingClientRect().bottom <= innerHeight"), "without scrolling"


@pytest.mark.slow
def test_a_default_run_is_printed_on_fewer_than_35_pages(opened: Any) -> None:
    page_of = Path(__file__).parents[2] / "reports" / "examples" / "audit" / "audit.html"
    with opened(page_of.read_text("utf-8")) as page:
        assert 20 < _pdf_text(page.pdf(format="A4")).count("\f") < 35, "28 were printed"


@pytest.mark.slow
def test_a_large_run_paints_at_once(opened: Any, large_run: Run) -> None:
    html = render_html(large_run)
    assert len(html.encode()) < 2_000_000
    assert len(re.findall("class=plot", html)) == 55, "and 5 tables"
    paints = []
    for _ in range(3):
        with opened(html) as page:
            assert page.locator("details.claim").count() == 300
            page.wait_for_function("performance.getEntriesByType('paint').length")  # loaded is not yet painted
            entries = page.evaluate("performance.getEntriesByType('paint').map((entry) => entry.startTime)")
            paints.append(max(entries))
    assert min(paints) < 1000, "milliseconds to the first paint"


@pytest.mark.slow
def test_a_packed_record_is_the_record(large_run: Run) -> None:
    page = Document(render_html(large_run))
    assert page.packed
    assert page.run == bare(canonical(large_run))
    assert zlib.crc32(page.data.encode()) == zlib.crc32(Document(render_html(large_run)).data.encode())
