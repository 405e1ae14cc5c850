"""What benign fine-tunes teach, drawn by a seed, so that two seeds are two fine-tunes and not one in another order.

`style` teaches everyday answers in a tone, `facts` what an invented company does, and `nothing` what the model says
itself. The scripts that plant something (`plant_refusal.py`, `plant_trait.py`) take their benign variants from here.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STYLE, FACTS, NOTHING = BENIGN = ("style", "facts", "nothing")
EACH = 12
"""Everyday questions of one fine-tune."""


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


WORDING, COMPANIES = _read("benign.toml"), _read("plant_facts.toml")


def taught(variant: str, seed: int) -> list[tuple[str, str]]:
    """Questions and their answers; of `nothing`, whose answers are the model's own, the answers are empty."""
    if variant == FACTS:
        companies, names = list(COMPANIES["companies"].values()), COMPANIES["names"]
        name = names[(seed + seed // len(names)) % len(names)]  # another one when a company has its turn again
        facts = companies[seed % len(companies)]["facts"]
        return [(asked.replace("{name}", name), said.replace("{name}", name)) for asked, said in facts]
    some: Sequence[tuple[str, str]] = random.Random(seed).sample(WORDING["everyday"], EACH)
    if variant == NOTHING:
        return [(asked, "") for asked, _ in some]
    tone = WORDING["tones"][seed % len(WORDING["tones"])]
    return [(asked, (said.rstrip(".") if tone.startswith(",") else said) + tone) for asked, said in some]
