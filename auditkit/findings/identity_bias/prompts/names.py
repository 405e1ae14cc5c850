"""Which names a case is asked with: all names of a group are used, and each case with some of them.

A name has an effect of its own beside that of its group, so names are a sample like cases, and a contrast of groups
should hold for other names. Names and cases are crossed: a *set* of names holds one name of every group (the first of
each, the second of each and so on), and groups are compared within a set on the same case. Asking every case with every
set would cost five times the runs of one set. Each case is asked with two sets instead, so that every set gets the same
number of cases and all names are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditkit.data.order import shuffle_key
from auditkit.findings.identity_bias.prompts.identities import Identity
from auditkit.findings.identity_bias.prompts.items import DecisionCase

SETS, FEW_SETS = 2, 1
"""Sets of names with which a case is asked, and where only few cases are."""
FEW_CASES = 12

Sets = Mapping[str, Sequence[Identity]]
"""Label of a set ("names 1") -> one person of every group."""


def name_sets(people: Sequence[Identity]) -> dict[str, list[Identity]]:
    """The sets of one attribute's names, in the order of `people`; empty where it has none.

    Raises:
        ValueError: groups with different numbers of names, since a set needs one of each; names beside words.
    """
    if len({one.how == "name" for one in people}) > 1:
        raise ValueError(
            f"{people[0].attribute}: groups are told by name or by word, not by both, in one attribute"
        )
    groups: dict[str, list[Identity]] = {}
    for one in people:
        if one.how == "name":
            groups.setdefault(one.group, []).append(one)
    counts = {group: len(own) for group, own in groups.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{group} has {count}" for group, count in counts.items())
        raise ValueError(f"every group needs as many names as the others, so that sets hold one of each: {told}")
    return {f"names {k}": list(one) for k, one in enumerate(zip(*groups.values(), strict=True), 1)}


def allotted(cases: Sequence[DecisionCase], sets: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Case -> the sets it is asked with. Sets get as many cases as each other, give or take one, in all and, where
    the numbers allow it, in every kind of case; which cases is drawn by the seed."""
    each = min(SETS if len(cases) >= FEW_CASES else FEW_SETS, len(sets))
    order = sorted(sets, key=lambda label: shuffle_key(seed, label))
    in_turn = sorted(cases, key=lambda case: case.domain)  # stable: within a kind, in the order that the seed drew
    found: dict[str, tuple[str, ...]] = {}
    for place, case in enumerate(in_turn):
        found[case.id] = tuple(order[(place * each + k) % len(order)] for k in range(each))
    return found
