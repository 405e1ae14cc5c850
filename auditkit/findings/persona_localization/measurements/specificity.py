"""Whether a result is specific to personas: the same procedure, asked for the topic of a statement.

The procedure has to tell apart statements of two topics, half of each topic from statements for its personas and half
from those against them, with as many statements as a persona has. This answers two questions. If the procedure finds
topics where it finds no persona, it is sensitive enough. If a persona shares as many units with topics as with other
personas, these units are not specific to personas.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from auditkit.claims.evidence import Section, gathering
from auditkit.claims.outcomes import Inconclusive
from auditkit.claims.shared import shared_measurement
from auditkit.data.order import shuffle_key
from auditkit.findings.persona_localization.measurements.blocks import BLOCKS
from auditkit.findings.persona_localization.measurements.layers import LayerSeparability
from auditkit.findings.persona_localization.measurements.material import PersonaActivations, PersonaItems
from auditkit.findings.persona_localization.measurements.scans import PersonaScans
from auditkit.findings.persona_localization.measurements.units import PersonaUnits
from auditkit.methods.scanning.overlap import overlap
from auditkit.record.figures import Dots
from auditkit.record.schema import Effect


class Specificity:
    """The measurements of personas beside the same ones of topics."""

    def __init__(
        self, activations: PersonaActivations, layers: LayerSeparability, scans: PersonaScans, units: PersonaUnits
    ) -> None:
        self.activations, self.seed = activations, activations.seed
        self.layers, self.scans, self.units = layers, scans, units

    def detection(self) -> Section:
        """How well probe, scan and words tell personas, and topics, on statements held out."""
        try:
            with gathering():  # the halves of the topics' statements need no notes of their own
                topics = self._asked("specificity")
                probes, scans = LayerSeparability(topics), PersonaScans(topics, self.scans.layer, permutations=0)
                other = _effects(probes, scans)
        except Inconclusive as error:
            return Section((str(error),))
        found = {"personas": _effects(self.layers, self.scans), "topics": other}
        caption = (
            "The same procedure asked for a persona, and for which of two topics a statement is of. 0.5 is guessing, "
            "but for recall, the share of positive statements that the scan finds. Each half of the statements is "
            "scanned for the other; probe and words are judged in folds."
        )
        drawing = Dots.of("AUC, precision or recall", caption, found, 0.5).titled("Personas beside topics")
        return Section((_compared(*(some["scan, AUC"] for some in found.values())),), (drawing,))

    def overlaps(self) -> tuple[str, ...]:
        """How far persona units are shared with other personas, and how far with topics, in words."""
        try:
            topics = PersonaUnits(self._asked("specificity of units"), self.units.layer, runs=self.units.runs)
            others = [topics.units(items) for items in topics.activations.personas]
        except Inconclusive as error:
            return (str(error),)
        people = [(items.topic, self.units.units(items)) for items in self.activations.personas]
        total = self.units.total
        across = [overlap([a, b], total).z for (x, a), (y, b) in combinations(people, 2) if x != y]
        with_topics = [overlap([a, b], total).z for _, a in people for b in others]
        across_z, topics_z = ([z for z in some if z is not None] for some in (across, with_topics))
        if not across_z or not topics_z:
            return ()
        return (
            f"specificity of units: the median z of two personas of different topics is {np.median(across_z):.2f}, "
            f"that of a persona and two topics that are told apart {np.median(topics_z):.2f}; as far as the two are "
            "alike, the units that personas share are not specific to personas",
        )

    def _asked(self, what: str) -> PersonaActivations:
        least = 2 * BLOCKS
        if self.topics is None or min(one.fewest_groups() for one in self.topics.personas) < least:
            raise Inconclusive(
                f"{what} is not measured: it needs statements of two topics, {least} independent ones of each (--items)"
            )
        return self.topics

    @shared_measurement
    def topics(self) -> PersonaActivations | None:
        """Statements of each two neighbouring topics, the first counting as positive; None where there is one topic."""
        by_topic: dict[str, list[PersonaItems]] = {}
        for items in self.activations.personas:
            by_topic.setdefault(items.topic, []).append(items)
        size = min(int(np.bincount(items.positive).min()) for items in self.activations.personas)
        names = list(by_topic)
        used: set[str] = set()
        questions = []
        for pair in zip(
            names, names[1:] + names[: len(names) > 2], strict=False
        ):  # a ring, so that statements suffice
            rows = [(*row, topic == pair[0]) for topic in pair for row in self._some(by_topic[topic], size, used)]
            ids, texts, groups, positive = (list(column) for column in zip(*rows, strict=True))
            used |= set(ids)
            name = f"{pair[0]}, not {pair[1]}"
            questions.append(PersonaItems.grouped(name, "topics", ids, texts, positive, groups, ""))
        return self.activations.asked_about(questions) if questions else None

    def _some(self, personas: list[PersonaItems], size: int, used: set[str]) -> list[tuple[str, str, str]]:
        """(id, text, group) of statements of a topic, half for and half against its personas, none used already."""
        rows = []
        for kind in (True, False):
            every = [
                (one.ids[i], one.texts[i], str(one.groups[i]))
                for one in personas
                for i in np.flatnonzero(one.positive == kind).tolist()
                if one.ids[i] not in used
            ]
            rows += sorted(every, key=lambda row: shuffle_key(self.seed, row[2]))[: size // 2]
        return sorted(rows)


def _effects(layers: LayerSeparability, scans: PersonaScans) -> dict[str, Effect]:
    return {
        "probe, last third, AUC": layers.late().describe(),
        "words, AUC": layers.words().describe(),
        "scan, AUC": scans.auc().describe(),
        "scan, precision": scans.precision().describe(),
        "scan, recall": scans.recall().describe(),
    }


def _compared(personas: Effect, topics: Effect) -> str:
    """What the two intervals tell of the scan."""
    match personas.lower, personas.upper, topics.lower, topics.upper:
        case float(low), float(), float(), float(top) if low > top:
            said = "so it finds personas better than topics"
        case float(), float(top), float(low), float() if low > top:
            said = "so it is not blind, and personas are not what it finds best"
        case float(), float(), float(), float():
            said = "which cannot be told to differ"
        case _:  # an AUC of exactly 1 has no interval
            said = "and one of them has no interval, so that they are not compared"
    return (
        f"specificity: the scan's AUC on held-out statements is {personas.estimate:.3f} for personas and "
        f"{topics.estimate:.3f} for topics, {said}"
    )
