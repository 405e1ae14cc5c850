"""Every parser of foreign files, fed with broken ones: it reads a file or refuses it in one line.

Each target begins with a file that is right and breaks it: bytes are cut, flipped, doubled and put in, and values of a
document are replaced by others of any type. More examples: `FUZZ=5000 pytest -m slow tests/fuzz`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audits import audit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auditkit.data
from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.errors import ModelError
from auditkit.data.choices import read_choices
from auditkit.data.errors import DataError
from auditkit.data.items import completion_items
from auditkit.data.personas import persona_groups, synonym_pairs
from auditkit.data.prompts import Chat
from auditkit.data.sources import read_questions
from auditkit.data.tables import read_rows
from auditkit.gate.thresholds import ThresholdsError, read_thresholds
from auditkit.gate.verified import require_decided, verified_folder
from auditkit.gate.waivers import WaiversError, read_waivers
from auditkit.record.baseline import NAMES, read_names
from auditkit.record.journal import chained
from auditkit.record.manifest import MANIFEST, manifest_problems
from auditkit.record.resume import find_interrupted
from auditkit.record.store import AUDIT_JSON, ITEMS_PARQUET, JOURNAL, RecordError
from tests.adapters.conftest import tokenizer_with
from tests.gate.test_verify import CONFTEST, SUITE

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ", "300"))
TODAY = date(2026, 1, 1)
broken = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [0, -1, 2**63, 2**64, 1e308, -1e308, "", "NaN", "../x", "\x00", "a\nb", [], {}, [[]], {"": None}]
    ),
    st.text(max_size=20),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3),
)


@st.composite
def broken_bytes(draw: st.DrawFn, right: bytes) -> bytes:
    """`right` after a few random edits of its bytes; now and then something else altogether."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
    content = bytearray(right)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.sampled_from([0, 1, 2, 8, 64, 10**9])))
        kind = draw(st.sampled_from(["cut", "put", "double", "flip"]))
        if kind == "cut":
            del content[at:end]
        elif kind == "put":
            content[at:at] = draw(
                st.binary(max_size=4) | st.sampled_from([b"[" * 2000, b'"', b"\n", b"{", b"\xff"])
            )
        elif kind == "double":
            content[at:at] = content[at : min(end, at + 64)]
        elif at < len(content):
            content[at] ^= draw(st.integers(1, 255))
    return bytes(content)


@st.composite
def broken_document(draw: st.DrawFn, right: Any) -> Any:
    """`right`, a value of JSON, with one to three of its parts replaced, taken out or doubled."""
    document = json.loads(json.dumps(right))
    for _ in range(draw(st.integers(1, 3))):
        holder, key = None, None
        value = document
        while isinstance(value, dict | list) and value and (holder is None or draw(st.integers(0, 5))):
            keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
            holder, key = value, draw(st.sampled_from(keys))
            value = holder[key]
        if holder is None:
            return draw(junk)
        kind = draw(st.sampled_from(["replace", "replace", "take out", "double", "add"]))
        if kind == "take out":
            del holder[key]
        elif isinstance(holder, list) and kind == "double":
            holder.append(deepcopy(value))
        elif isinstance(holder, dict) and kind == "add":
            holder[draw(st.text(max_size=5))] = deepcopy(draw(junk))
        else:
            holder[key] = deepcopy(draw(junk))
    return document


def encoded(value: Any) -> bytes:
    """JSON as Python writes it, NaN and half surrogates included."""
    return json.dumps(value).encode(errors="surrogatepass")


def either(right: bytes, *, lines: bool = False) -> st.SearchStrategy[bytes]:
    """Broken bytes, or a broken document; of a file of lines, documents in lines."""
    if lines:
        documents = broken_document([json.loads(line) for line in right.splitlines()])
        as_lines = documents.map(lambda rows: b"".join(encoded(row) + b"\n" for row in rows) if rows else b"")
        return broken_bytes(right) | as_lines
    return broken_bytes(right) | broken_document(json.loads(right)).map(encoded)


def refuses(read: Callable[[], object], *errors: type[Exception]) -> None:
    """`read` comes to an end, or says in one line why it does not."""
    try:
        read()
    except errors as error:
        said = str(error)
    else:
        return
    assert said.strip()
    assert "\n" not in said
    assert len(said) < 5000


@contextmanager
def restored(file: Path) -> Iterator[bytes]:
    """The content of a file that other tests read too; it is written back afterwards."""
    kept = file.read_bytes()
    try:
        yield kept
    finally:
        file.write_bytes(kept)


# -- records ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A recorded run with every kind of effect."""
    suite = tmp_path_factory.mktemp("suite") / "suite"
    suite.mkdir()
    for name, text in {"__init__": "", "conftest": CONFTEST, "test_finding": SUITE}.items():
        (suite / f"{name}.py").write_text(text)
    return audit(suite.parent / "reports", str(suite), "--model", str(tiny_llama), codes=(1,))


@broken
@given(data=st.data())
def test_a_record(recorded: Path, data: st.DataObject) -> None:
    with restored(recorded / AUDIT_JSON) as kept:
        (recorded / AUDIT_JSON).write_bytes(data.draw(either(kept)))
        refuses(lambda: verified_folder(recorded), RecordError)


@broken
@given(data=st.data())
def test_items(recorded: Path, data: st.DataObject) -> None:
    with restored(recorded / ITEMS_PARQUET) as kept:
        (recorded / ITEMS_PARQUET).write_bytes(data.draw(broken_bytes(kept)))
        refuses(lambda: verified_folder(recorded), RecordError)


@broken
@given(data=st.data())
def test_items_of_other_columns_and_types(recorded: Path, data: st.DataObject) -> None:
    table = pq.read_table(recorded / ITEMS_PARQUET)
    name = data.draw(st.sampled_from(table.column_names))
    change = data.draw(st.sampled_from(["drop", "null", "number", "bytes", "list", "rename"]))
    at = table.column_names.index(name)
    columns: dict[str, Any] = {
        "null": pa.nulls(len(table)),
        "number": pa.array(range(len(table))),
        "bytes": pa.array([b"\xff"] * len(table)),
        "list": pa.array([[1]] * len(table)),
    }
    if change == "drop":
        table = table.drop_columns([name])
    elif change == "rename":
        table = table.rename_columns([f"{one}s" if one == name else one for one in table.column_names])
    else:
        table = table.set_column(at, name, columns[change])
    with restored(recorded / ITEMS_PARQUET):
        pq.write_table(table, recorded / ITEMS_PARQUET)
        refuses(lambda: verified_folder(recorded), RecordError)


@broken
@given(data=st.data())
def test_a_manifest(recorded: Path, data: st.DataObject) -> None:
    with restored(recorded / MANIFEST) as kept:
        (recorded / MANIFEST).write_bytes(data.draw(either(kept)))
        refuses(lambda: manifest_problems(recorded), RecordError)


@broken
@given(data=st.data())
def test_names_of_baselines(tmp_path: Path, data: st.DataObject) -> None:
    right = encoded({"released": {"run": "20260101T000000Z-m", "audit_sha256": "ab" * 32}})
    (tmp_path / NAMES).write_bytes(data.draw(either(right)))
    refuses(lambda: read_names(tmp_path), RecordError)


@broken
@given(data=st.data(), chain=st.booleans())
def test_a_journal(recorded: Path, tmp_path: Path, data: st.DataObject, chain: bool) -> None:
    """With lines that are broken, and with lines of other values whose digests are right."""
    path, right = tmp_path / JOURNAL, (recorded / JOURNAL).read_bytes()
    if chain:
        first, *rest = right.splitlines()
        lines = [first]
        for line in rest:
            entry = json.loads(line)
            del entry["sha256"]
            changed = data.draw(broken_document(entry))
            if isinstance(changed, dict):
                lines.append(chained(lines[-1], encoded(changed)))
        path.write_bytes(b"\n".join(lines) + b"\n")
    else:
        path.write_bytes(data.draw(either(right, lines=True)))
    refuses(lambda: require_decided(find_interrupted(tmp_path, str(tmp_path)), paired=True), RecordError)


# -- files of users --------------------------------------------------------------------------------------------

THRESHOLDS = b"""[default]
"suite/a" = { threshold = 0.25, source = "calibration", date = 2026-11-20 }
"suite/b#2" = { threshold = 1e-3 }
[family.llama]
"suite/a" = { threshold = -0.15 }
[model."m.x"]
"suite/b" = { threshold = 1, source = "policy 7" }
[calibration]
run = "20260101T000000Z-m"
"""
WAIVERS = b"""[[waiver]]
claim = "suite/a"
owner = "Jane Doe"
reason = "ticket 12"
expires = 2026-12-31
[[waiver]]
claim = "suite/b"
owner = "J"
reason = "r"
expires = "2026-03-01"
"""


@broken
@given(data=st.data())
def test_thresholds(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "thresholds.toml"
    path.write_bytes(data.draw(broken_bytes(THRESHOLDS)))
    refuses(lambda: read_thresholds(path, ["suite/a", "suite/b"]).listed(), ThresholdsError)


@broken
@given(data=st.data())
def test_waivers(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "waivers.toml"
    path.write_bytes(data.draw(broken_bytes(WAIVERS)))
    refuses(lambda: read_waivers(path, ["suite/a", "suite/b"], TODAY), WaiversError)


OPTIONS = ["yes", "no", "so", "then"]
ROWS = [{"question": f"Is {n} even?", "choices": OPTIONS, "answer": n % 2, "subject": "s"} for n in range(4)]
FLAT = "question,A,B,C,D,answer\n" + "".join(f"Is {n} even?,yes,no,so,then,{'AB'[n % 2]}\n" for n in range(4))
OWN = Path(auditkit.data.__file__).parent
DATA: dict[str, tuple[bytes, bool | None]] = {
    "rows.json": (encoded(ROWS), False),
    "named.json": (encoded({"data": ROWS, "version": 1}), False),
    "columns.json": (encoded({name: [row[name] for row in ROWS] for name in ROWS[0]}), False),
    "rows.jsonl": (b"".join(encoded(row) + b"\n" for row in ROWS), True),
    "completions.csv": (b"".join((OWN / "completions.csv").read_bytes().splitlines(keepends=True)[:6]), None),
    "rows.csv": (FLAT.encode(), None),
    "rows.tsv": (FLAT.replace(",", "\t").encode(), None),
}
"""Name of a file -> what is right in it, and whether it holds lines of JSON; None: no JSON."""


@pytest.mark.parametrize("name", DATA)
@broken
@given(data=st.data())
def test_questions(tmp_path: Path, name: str, data: st.DataObject) -> None:
    right, lines = DATA[name]
    path = tmp_path / name
    path.write_bytes(data.draw(broken_bytes(right) if lines is None else either(right, lines=lines)))
    for read in (
        lambda: read_rows(path),
        lambda: read_choices([path]),
        lambda: completion_items(path),
        lambda: read_questions(str(path)),
    ):
        refuses(read, DataError)


@broken
@given(data=st.data())
def test_tables(tmp_path: Path, data: st.DataObject) -> None:
    for name in ("rows.parquet", "rows.arrow"):
        path = tmp_path / name
        table = pa.Table.from_pylist(ROWS)
        if name.endswith("parquet"):
            pq.write_table(table, path)
        else:
            with pa.ipc.new_stream(str(path), table.schema) as stream:
                stream.write_table(table)
        path.write_bytes(data.draw(broken_bytes(path.read_bytes())))
        refuses(partial(read_questions, str(path)), DataError)


PERSONAS = (OWN / "personas.toml").read_bytes()


@broken
@given(data=st.data())
def test_personas(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "personas.toml"
    path.write_bytes(data.draw(broken_bytes(PERSONAS)))
    refuses(lambda: persona_groups(path), DataError)
    refuses(lambda: synonym_pairs(path), DataError)


# -- chat templates ----------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}<s>{{ m.content | trim }}{% else %}[{{ m['role'] }}]"
    "{{ m.content + eos_token }}{% endif %}{{ loop.index }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
    "{{ raise_exception('x') if false }}{{ strftime_now('%Y') }}"
)
TOKENIZER = tokenizer_with()
PARTS = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "'a' * 9",
    "__class__",
    "| tojson",
    "loop",
    "messages[9]",
    "namespace()",
    "1/0",
]


@settings(broken, max_examples=max(EXAMPLES // 3, 10))
@given(data=st.data())
def test_a_chat_template(data: st.DataObject) -> None:
    text = data.draw(broken_bytes(TEMPLATE.encode())).decode(errors="replace")
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(PARTS)) + text[at:]
    TOKENIZER.chat_template = text
    refuses(lambda: ChatEncoder(TOKENIZER).render(Chat("Is bread food?", system="Be brief.")), ModelError)
