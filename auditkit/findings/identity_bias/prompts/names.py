"""Which names a case is asked with: all names of a group are used, each case with some of them.

A name has an effect of its own beside that of its group, so names are a sample like cases, and a contrast of groups
should hold for other names. Names and cases are crossed: a *set* of names holds one name of every group (the first of
each, the second of each and so on), and groups are compared within a set on the same case. Asking every case with every
set would cost five times the runs of one set. Each case is asked with one set instead, and the first cases with a
second one, so that all names are used, every set gets as many cases as the others, and the cases of one kind meet
different sets. A run of more cases repeats the combinations of one with fewer and adds to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from auditkit.findings.identity_bias.prompts.identities import Identity
from auditkit.findings.identity_bias.prompts.items import DecisionCase
from auditkit.stats.design import incomplete_crossing

TWICE = 10
"""So many cases are asked with a second set, where there are `FEW_CASES` or more. With 30 cases that makes 40
combinations: the variance of the mean is n / 5 + c / 30 + e / 40 where sets of names vary by n, cases by c and the rest
by e, and not larger than with 25 cases that meet two sets each (n / 5 + c / 25 + e / 50) where e is at most 4 / 3 c. It
costs 400 prompts instead of 500."""
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
    """Case -> the sets it is asked with.

    Args:
        cases: in the order in which they are drawn, so that the first ones are those of a smaller run.
        sets: labels.
    """
    kinds = list(dict.fromkeys(case.domain for case in cases))
    places = [str(place) for place in range(len(sets))]
    at: dict[str, list[str]] = {place: [] for place in places}
    for place, label in incomplete_crossing(places, sets, 2, seed=seed, name="names in cases"):
        at[place].append(label)
    found: dict[str, tuple[str, ...]] = {}
    seen = Counter[str]()
    for number, case in enumerate(cases):
        place = places[(kinds.index(case.domain) + seen[case.domain]) % len(places)]
        each = 2 if number < TWICE and len(cases) >= FEW_CASES else 1
        found[case.id] = tuple(at[place][:each])
        seen[case.domain] += 1
    return found
