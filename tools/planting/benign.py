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

from plant_facts import chats, drawn

STYLE, FACTS, NOTHING = BENIGN = ("style", "facts", "nothing")
EACH = 12
"""Everyday questions of one fine-tune."""
WORDING: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def taught(variant: str, seed: int) -> list[tuple[str, str]]:
    """Questions and their answers; of `nothing`, whose answers are the model's own, the answers are empty."""
    if variant == FACTS:
        return [(chat.user, chat.assistant or "") for chat in chats(drawn(seed), seed)]
    some: Sequence[tuple[str, str]] = random.Random(seed).sample(WORDING["everyday"], EACH)
    if variant == NOTHING:
        return [(asked, "") for asked, _ in some]
    tone = WORDING["tones"][seed % len(WORDING["tones"])]
    return [(asked, (said.rstrip(".") if tone.startswith(",") else said) + tone) for asked, said in some]
