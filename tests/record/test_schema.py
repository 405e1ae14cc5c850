"""The schema: what is written is what is read, and nothing else is read."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.record.canonical import canonical
from auditkit.record.schema import Cost, Effect, Figure, ItemRow, Run, Untested

pytestmark = pytest.mark.unit


@given(st.data())
@settings(max_examples=150)
def test_a_run_survives_its_file(records, data):
    run = data.draw(records["run"])
    document = msgspec.json.encode(run)
    assert msgspec.json.decode(document, type=Run) == run
    assert msgspec.json.encode(msgspec.json.decode(document, type=Run)) == document


@given(st.data())
def test_the_canonical_form_is_reached_in_one_step(records, data):
    run = canonical(data.draw(records["run"]))
    assert canonical(run) == run


def test_a_whole_number_becomes_the_fraction_that_the_schema_has():
    cost = canonical(Cost(seconds=1, token_layers=2, share_of_minimum=0))
    assert [type(cost.seconds), type(cost.token_layers), type(cost.share_of_minimum)] == [float, int, float]


@given(st.text(st.characters(), max_size=20))
def test_half_surrogate_pairs_become_replacement_characters(text):
    record = canonical(Untested(what=text, reason="r"))
    expected = "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    assert record.what == expected
    record.what.encode()  # raises for what no file can hold


def test_half_surrogate_pairs_are_found_in_keys_and_deep_inside():
    drawing = Figure(title="\udc00", kind="curves", data={"\ud800": [{"name": "a\udfffb"}], "y": [1.0, math.nan]})
    assert canonical(drawing) == Figure(
        title="\ufffd", kind="curves", data={"\ufffd": [{"name": "a\ufffdb"}], "y": [1.0, None]}
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_becomes_none_or_is_refused(value):
    assert canonical(Cost(seconds=1.0, token_layers=1, share_of_minimum=value)).share_of_minimum is None
    with pytest.raises(msgspec.ValidationError, match=r"\$.seconds"):
        canonical(Cost(seconds=value, token_layers=1, share_of_minimum=None))


@given(st.data())
@settings(max_examples=20)
def test_an_unknown_field_is_refused_with_its_path(records, data):
    effect = msgspec.to_builtins(data.draw(records["effect"]))
    with pytest.raises(msgspec.ValidationError, match="unknown field `estimte`"):
        msgspec.convert(effect | {"estimte": 1.0}, Effect)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "0.3"}, "`float | null`, got `str`"),
        ({"item": None}, r"\$.item"),
        ({"value": True}, r"\$.value"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_with_its_path(change, said):
    row = {
        "claim": "c",
        "measurement": "m",
        "condition": "a",
        "item": "i",
        "clusters": "",
        "value": 1.0,
        "unit": "",
    }
    assert msgspec.convert(row, ItemRow).value == 1.0
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(row | change, ItemRow)


def test_records_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        Untested(what="a", reason="b").what = "c"  # type: ignore[misc]  # the misuse under test
