"""The page shows the whole run, in a document that nothing inside the run can change."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.record.schema import Run
from auditkit.report import render_html, wording, write_outputs

pytestmark = pytest.mark.unit

VOID = {"meta", "link", "br", "hr", "img", "input"}
CLOSED = {"profile", "verdict", "relation", "kind", "rank", "state"}
"""Fields whose values come from a closed list and cannot hold other text."""

HOSTILE = [
    "<script>document.title='executed'</script>",
    "</script><script>document.title='executed'</script>",
    "</style><script>document.title='executed'</script>",
    "</title><script>document.title='executed'</script>",
    "</textarea><img src=x onerror=document.title='executed'>",
    "</svg><script>document.title='executed'</script>",
    "</desc></title><svg onload=document.title='executed'>",
    "<img src=x onerror=\"document.title='executed'\">",
    "<svg onload=document.title='executed'>",
    "<svg><animate onbegin=document.title='executed' attributeName=x>",
    "<body onload=document.title='executed'>",
    "<details open ontoggle=document.title='executed'>",
    "<iframe srcdoc=\"<script>parent.document.title='executed'</script>\">",
    "<math><mtext></mtext><script>document.title='executed'</script></math>",
    "<style>*{display:none}</style>",
    "<base href=https://example.org/>",
    "<meta http-equiv=refresh content=0;url=https://example.org/>",
    "\"><b id=injected>",
    "' onmouseover='document.title=1' x='",
    "\" onfocus=document.title='executed' autofocus \"",
    "javascript:document.title='executed'",
    "{{7*7}}",
    "{% include 'style.css' %}",
    "{{ ''.__class__.__mro__ }}",
    "${7*7} $x^{2}$ $\\frac{",
    "<!--", "-->", "<!-- <script>", "<![CDATA[ x ]]>", "]]>", "<?xml version='1.0'?>",
    "&lt;script&gt; &amp; &#60;",
    "NUL \x00 bell \x07 escape \x1b[31m delete \x7f",
    "right-to-left override \u202egnirts\u202c and isolate \u2067x",
    "עברית العربية",
    "line\u2028and paragraph\u2029separators",
    "lone surrogates \ud800 and \udfff",
    "not a character \ufffe \uffff",
    "one\ntwo\r\nthree\ttab",
    "W" * 10_000,
    "🙂" * 50,
    "| pipe ` tick \\ backslash ![i](https://example.org/i.png) [l](javascript:x)",
]  # fmt: skip


class Document(HTMLParser):
    """What a browser would see: elements with their attributes, text, and the plots apart from the rest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.plot: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.data = ""
        self.open: list[str] = []
        self.plots = 0
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._element(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._element(tag, attrs)

    def _element(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "svg" and ("class", "plot") in attrs:
            self.plots = len(self.open) + 1
        names = tuple(name for name, _ in attrs)
        (self.plot if self.plots else self.elements).append((tag, names))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if len(self.open) < self.plots:
            self.plots = 0

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data += data
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def replace_text(run: Run, change: Callable[[str], str]) -> Run:
    """`run` with every free text changed, keys of free mappings included."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return value if key in CLOSED else change(value)
        if isinstance(value, dict):
            if key == "absent":
                return {change(name): verdict for name, verdict in value.items()}
            plan = {"claims", "thresholds", "data", "settings", "versions"}
            free = key in {"prompts", "values", "packages"} or (key in plan and "series" not in value)
            return {change(name) if free else name: walk(item, name) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        return value

    return msgspec.convert(walk(msgspec.to_builtins(run)), Run)


def texts_of(run: Run) -> list[str]:
    """Every free text of a run but the command, which the page shows quoted for a shell."""
    found: list[str] = []
    replace_text(msgspec.structs.replace(run, command=()), lambda text: found.append(text) or text)
    return found


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
    for expected in texts_of(hostile):
        assert wording.clean(expected) in page.text
    assert wording.clean(shlex.join(hostile.command)) in page.text
    stored = replace_text(hostile, lambda old: re.sub("[\ud800-\udfff]", "\ufffd", old))
    assert msgspec.json.decode(page.data, type=Run) == stored


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
    page = Document(render_html(sample_run))
    for text in texts_of(sample_run):
        assert text in page.text
    for claim in sample_run.claims:
        for effect in wording.effects_of(claim):
            for value in (effect.estimate, effect.n, effect.clusters, effect.threshold):
                assert value is None or wording.number(value) in page.text
            assert effect.lower is None or wording.interval(effect) in page.text
        for effect in [claim.effect, *claim.also]:
            for value in () if effect is None else (effect.standardized, effect.mde, effect.items_needed):
                assert value is None or wording.number(value) in page.text
        for example in claim.examples:
            assert all(wording.number(value) in page.text for value in example.values.values())
        for figure in claim.figures:
            for series in figure.data["series"]:
                assert all(wording.number(value) in page.text for value in series["y"])
    assert "needs about 140 more items" in page.text
    assert re.search(r"\b(nan|inf|None|Undefined)\b", page.text) is None


def test_structure_is_accessible(sample_run: Run) -> None:
    page = Document(render_html(sample_run))
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["h1"] == tags["main"] == tags["footer"] == tags["nav"] == 1
    assert tags["script"] == tags["style"] == 1
    assert all("scope" in names for tag, names in page.elements if tag == "th")
    assert all("role" in names for tag, names in page.elements + page.plot if tag == "svg")
    assert ("html", "lang", "en") in page.attributes
    assert not [name for _, names in page.elements for name in names if name == "style" or name.startswith("on")]
    targets = {value[1:] for _, name, value in page.attributes if name == "href"}
    assert targets - set(page.ids) == set(), "every link leads somewhere"


def test_json_decodes_to_the_identical_run(sample_run: Run) -> None:
    assert msgspec.json.decode(Document(render_html(sample_run)).data, type=Run) == sample_run


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
    assert '<li class="danger">' in page
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
        pairs += [(name, f"{name}-bg") for name in ("pass", "fail", "inconclusive", "not_applicable", "error")]
        for text, ground in pairs:
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run headless Chromium with console messages on its error stream."""
    quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
    flags = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "enable-logging=stderr", *quiet)
    return subprocess.run(
        ["chromium", *(f"--{flag}" for flag in flags), f"--user-data-dir={folder / 'profile'}", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_browser_runs_nothing_and_shows_everything(sample_run: Run, tmp_path: Path) -> None:
    hostile = replace_text(sample_run, lambda old: " ".join([*HOSTILE, old]))
    page = write_outputs(tmp_path, hostile)
    done = chromium(tmp_path, "--dump-dom", page.as_uri())
    assert "CONSOLE" not in done.stderr, "no refused style, no refused script, no error"
    document = Document(done.stdout)
    mine = Document(page.read_text("utf-8"))
    assert Counter(document.elements) == Counter(mine.elements), "the browser found the same elements"
    for text in ("Needs attention", "Sign-off", "Numbers of this figure", sample_run.claims[0].statement):
        assert text in document.text
    assert "<title>executed</title>" not in done.stdout

    # Headless Chromium needs scripts of its own for its commands, so they are switched off for a frame only:
    # the picture is the same, hence the page needs none, and no message says that one was stopped.
    for name, attribute in (("with", ""), ("without", "sandbox")):
        frame = tmp_path / f"{name}.html"
        frame.write_text(f'<iframe {attribute} src="audit.html" width="1000" height="3000"></iframe>')
        picture = f"--screenshot={frame.with_suffix('.png')}"
        done = chromium(tmp_path, picture, "--window-size=1040,3040", frame.as_uri())
        assert "CONSOLE" not in done.stderr
    assert frame.with_suffix(".png").stat().st_size > 50_000, "the frame shows something"
    assert (tmp_path / "with.png").read_bytes() == (tmp_path / "without.png").read_bytes()


def _small() -> Run:
    """The sample without its figure: drawing is the slow part and has tests of its own."""
    import importlib.util

    specification = importlib.util.spec_from_file_location("sample", Path(__file__).with_name("conftest.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    run: Run = module.build_run()
    return msgspec.structs.replace(
        run, claims=tuple(msgspec.structs.replace(one, figures=()) for one in run.claims)
    )


SMALL = _small()
