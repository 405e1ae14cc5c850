"""Path patching: what reaches the answer along some paths and not along others.

A *sender* takes its activation from the source run. What lies between it and the answer is either left to answer to
the change, or *frozen* to what it is in the base run, so that the change cannot pass there. With *receivers*, the
change is let through to them only: in a first run the sender is restored and the frozen sites are held, and what the
receivers are then is put into a base run that is otherwise untouched (Wang et al. 2022, arXiv:2211.00593, section
3.1 and appendix B; Goldowsky-Dill et al. 2023, arXiv:2304.05969).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditkit.adapters.protocol import Adapter, Place
from auditkit.engine import arguments
from auditkit.engine.edits import Edit, Edited, layers_of, located, replace
from auditkit.engine.pairs import Condition, PatchPair
from auditkit.engine.sites import Site, SiteError, Span


def path(
    adapter: Adapter,
    pairs: Sequence[PatchPair],
    sender: Sequence[Site],
    *,
    frozen: Sequence[Site] = (),
    receivers: Sequence[Site] = (),
) -> Condition:
    """A condition for `patch`: the sender restored, the frozen sites held, the rest (or the receivers only) answering.

    Without receivers: one run per pair, and one for the base's own activations where something is frozen. With
    receivers: one more.

    Args:
        sender: sites that take their activation from the source run.
        frozen: sites that keep what they are in the base run.
        receivers: where given, the change reaches the answer through these sites only.

    Raises:
        SiteError: no sender, a site that is both frozen and sender or receiver, or a receiver that no sender can
            reach because it lies in an earlier block.
        NotApplicable: a component that this model does not offer.
        TypeError: an argument of another shape, such as a bare site where a list is meant.
    """
    arguments.model(adapter)
    arguments.pairs(pairs)
    for name, sites in (("sender", sender), ("frozen", frozen), ("receivers", receivers)):
        arguments.several(name, sites, Site, arguments.SITES, "a site")
    if not sender:
        raise SiteError("path patching needs a sender")
    condition: list[tuple[Edit, ...]] = []
    for pair in pairs:
        sent, held, received = (
            _covered(adapter, sites, len(pair.base), pair.spans) for sites in (sender, frozen, receivers)
        )
        for what, others in (("sender", sent), ("receiver", received)):
            both = sorted(held.keys() & others.keys())
            if both:
                raise SiteError(f"{others[both[0]]} is a {what} and frozen at once; give it one role")
        first = min(layer for (_, layer), _, _ in sent)
        for ((_, layer), _, _), site in received.items():
            if layer < first:
                raise SiteError(
                    f"{site}: no change from layer {first} on reaches layer {layer}; receivers come later"
                )
        edits = (
            *(replace(site, pair.source) for site in sender),
            *(replace(site, pair.base) for site in frozen),
        )
        if receivers:
            sending = Edited(pair.base, edits, pair.spans)
            edits = tuple(replace(site, sending) for site in receivers)
        condition.append(edits)
    return condition


def _covered(
    adapter: Adapter, sites: Sequence[Site], length: int, spans: Mapping[str, Span]
) -> dict[tuple[Place, int, int | None], Site]:
    """Every (place, position, head) that the sites cover; head None where the component has none."""
    covered: dict[tuple[Place, int, int | None], Site] = {}
    for site in sites:
        start, stop = located(adapter, site, length, spans)
        heads = site.head_indices(adapter.heads, adapter.groups) or (None,)
        for layer in layers_of(adapter, site):
            for position in range(start, stop):
                for head in heads:
                    covered[(site.component, layer), position, head] = site
    return covered
