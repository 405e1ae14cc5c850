"""Text that tries to be more than text, runs that hold it everywhere, and what a browser would make of a page."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import msgspec

from auditkit.record.schema import Run
from auditkit.report import examples

VOID = {"meta", "link", "br", "hr", "img", "input"}
BLOCKS = {"p", "div", "table", "ul", "ol", "dl", "pre", "details", "section", "figure", "form", "nav"}
ENDED_BY = {
    "td": {"td", "th", "tr"},
    "th": {"td", "th", "tr"},
    "tr": {"tr"},
    "thead": {"tbody"},
    "tbody": {"tbody"},
    "li": {"li"},
    "p": BLOCKS | {"h2", "h3", "h4", "h5", "h6"},
}
"""Elements whose end tag HTML lets away -> what ends them when it begins; the end of what holds them does, too."""
CLOSED = {"ended", "lack", "compare", "profile", "verdict", "relation", "kind", "rank", "state", "scale"}
"""Fields whose values come from a closed list and cannot hold other text."""

KINDS: dict[str, list[str]] = {
    "elements, scripts, styles, templates and signs of HTML": [
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
    ],
    "markup, links, images and mentions of Markdown": [
    "</td></table><img src=x onerror=alert(1)>", "--- \n---\nx: 1\n---", "|||", "\\|", "`` ` ``",
    "**b** __c__ ~~d~~", "1. a", "12) b", "====", "> q", "```", "- item\n- item", "x: {y: [", "'", "~", "# head",
    "[link](https://example.org)", "![i](https://example.org/x.png)", "https://example.org www.example.org a@b.org",
    "<https://example.org>", "[a]: https://example.org", "@everyone #1 org/repo#2", "GH-45 !45", ":tada: :+1:",
    "0123456789abcdef0123456789abcdef01234567", "a@0123456789abcdef0123456789abcdef01234567",
    "<!-- -->", "&lt;&#0;&amp;", "{{7*7}} ${7*7} $x$",
    ],
    "commands of GitHub, Azure and TeamCity": [
    "::error file=x::y",
    "\n::error::injected", "%0A::error::injected", "\r\n::stop-commands::x", "\u2028::error::x",
    "  ::add-mask::reason", "::set-output name=x::y", "##[error]x", "a ##[group]x",
    "##vso[task.complete result=Failed;]",
    "##teamcity[testFailed name='x']", "b ##VSO[task.setvariable variable=a]b",
    "x " * 60 + "::error::wrapped", "\u00a0::error::x",
    ],
    "formulas of spreadsheets": [
    "=HYPERLINK(\"https://example.org\")", "+1", "-1+1", "@SUM(A1)", "\t=1", " =1+1", "\u200b=1+1", "\uff1d1+1",
    "\ufeff@SUM(A1)", "\n=1", "=cmd|' /C calc'!A0", "a,b\nc;\"d\"\te",
    ],
    "control sequences of terminals, marks of direction": [
    "\x1b]0;title\x07", "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "\x9b31m csi", "\x1b[2J\x1b[H",
    "a\rb", "a\x08b",
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ],
    "words for a shell, parts of a path, empty and long texts": [
    "$(touch x)", "`touch x`", "a;touch x", "a&&touch x", "a|touch x", "$HOME", "a b", "--option", "../../x",
    "/etc/passwd",
    ".hidden", "..", "é" * 300, "é" * 10_000, " ", "",
    ],
}  # fmt: skip
"""What a text tries to be -> texts."""

HOSTILE = [text for texts in KINDS.values() for text in texts]


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "loops that never end": (ENDLESS, "TimeoutError: it is not done after 4 s"),
    "a repeated text": ("{{ 'a' * 10**9 }}", "MemoryError"),
    "a wide number": ("{{ '%1000000000d' | format(1) }}", "MemoryError"),
    "a centred text": ("{{ 'a'.center(500000000) }}", "MemoryError"),
    "a text that doubles": (
        "{% set n = namespace(x='a' * 1000) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "MemoryError",
    ),
    "an output beyond reading": ("{{ 'a' * 2000000 }}", "it writes 2,000,000 characters"),
    "a macro that calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "an attribute of Python": ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    "a method's globals": ("{{ messages.append.__globals__ }}", "SecurityError"),
    "a file of the machine": ("{% include '/etc/passwd' %}", "no loader"),
    "an error of its own": ("{{ raise_exception('no\x1b[31m\n::error::x') }}", "TemplateError: no.?\\[31m"),
    "no template at all": ("{% if %}", "TemplateSyntaxError"),
}
"""What a template asks for -> its source, and what the refusal says."""


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
        self.packed = False
        self.open: list[str] = []
        self.plots = 0
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self.open and tag in ENDED_BY.get(self.open[-1], ()):
            self.open.pop()
        self._element(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._element(tag, attrs)

    def _element(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "svg" and ("class", "plot") in attrs:
            self.plots = len(self.open) + 1
        names = tuple(name for name, _ in attrs)
        self.record = tag == "script" and ("type", "application/json") in attrs
        if self.record and "data-encoding" in names:
            self.packed = True
            names = tuple(name for name in names if name != "data-encoding")
        if tag != "bdi":  # stands around text that turns the writing direction, and around no other
            (self.plot if self.plots else self.elements).append((tag, names))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] in ENDED_BY and self.open[-1] != tag:
            self.open.pop()
        assert self.open.pop() == tag
        if len(self.open) < self.plots:
            self.plots = 0

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data += data if self.record else ""
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def run(self) -> Run:
        """The embedded record."""
        packed = zlib.decompress(base64.b64decode(self.data)) if self.packed else self.data
        return msgspec.json.decode(packed, type=Run)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def level(text: str) -> str:
    """The text without tabs and line breaks: where numbers stand in columns they would make a cell or a row."""
    return re.sub("\r\n|[\t\r\n]", " ", text)


def replace_text(run: Run, change: Callable[[str], str]) -> Run:
    """`run` with every free text changed, keys of free mappings included."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return value if key in CLOSED else change(value)
        if isinstance(value, dict):
            if key == "absent":
                return {change(name): verdict for name, verdict in value.items()}
            plan = {"claims", "thresholds", "data", "settings", "versions"}
            free = key in {"prompts", "values", "packages"} or (key in plan and "caption" not in value)
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


def prompts_as_shown(run: Run) -> dict[str, str]:
    """Prompt -> what the page shows of it."""
    found = {}
    for example in (one for claim in run.claims for one in claim.examples):
        item = examples.shown(example)
        for side in (*item.sides, *item.others):
            if side.pieces is not None:
                found[example.prompts[side.condition]] = "".join(piece.text for piece in side.pieces)
    return found
