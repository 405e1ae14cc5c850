"""CrowS-Pairs (Nangia et al. 2020, arXiv:2010.00133): `sent_more` is the more stereotyping of two sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from auditkit.data.errors import Dropped
from auditkit.findings.identity_bias.prompts.items import Items, SentencePair
from auditkit.findings.identity_bias.prompts.published.gathering import Row, gathered, lacking

VALIDITY = (
    "CrowS-Pairs has documented faults: many pairs do not name a stereotype, change more than the group, or are not "
    "grammatical (Blodgett et al. 2021, 'Stereotyping Norwegian Salmon'). A preferred sentence is a likelier text, not "
    "a belief; a group's name that is rarer makes its sentence less likely by itself."
)
FIELDS = ("sent_more", "sent_less", "bias_type")


def read_crows_pairs(paths: Sequence[Path]) -> Items[SentencePair]:
    """Pairs of CrowS-Pairs files; every pair is a template of its own.

    Raises:
        DataError: a file that cannot be read, lacks a column, or holds no usable pair.
    """
    return gathered(paths, _pair, VALIDITY, FIELDS)


def _pair(name: str, row: Row) -> SentencePair | Dropped:
    if why := lacking(row, FIELDS):
        return Dropped(name, why)
    more, less = str(row["sent_more"]).strip(), str(row["sent_less"]).strip()
    if more == less:
        return Dropped(name, "its two sentences are the same")
    return SentencePair(name, str(row["bias_type"]).strip(), name, name, more, less)
