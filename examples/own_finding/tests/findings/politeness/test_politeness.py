"""Requests in three manners: answers in which politeness is planted, and answers in which nothing is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from auditkit.findings.politeness import measurements
from auditkit.findings.politeness.measurements import Politeness

from auditkit.stats.streams import stream

pytestmark = pytest.mark.unit


class Words:
    """A chat encoder whose tokens are words and whose prompt is the user's turn."""

    def encode(self, text):
        return [sum(map(ord, word)) for word in text.split()]

    def __call__(self, chat):
        return chat.user


@pytest.fixture
def planted(monkeypatch):
    """planted(gain): requests of a model in which "please" adds so many logits to " Yes"."""

    def asked(gain):
        def answers(model, prompts, ids):
            noise = stream(0, "answers").normal(0, 0.1, len(prompts))
            return torch.tensor(
                [[gain * ("please" in text) + n, 0.0] for text, n in zip(prompts, noise, strict=True)]
            )

        monkeypatch.setattr(measurements, "answer_logits", answers)
        return Politeness(SimpleNamespace(chat=Words()))

    return asked


def test_planted_politeness_is_found(planted):
    effect = planted(1.0).shift("polite").describe()
    assert effect.lower > 0.5
    assert effect.estimate == pytest.approx(1.0, abs=0.2)
    assert (effect.n, effect.clusters) == (10, 5)


def test_nothing_is_found_where_nothing_is_planted(planted):
    effect = planted(0.0).shift("polite").describe()
    assert effect.lower < 0 < effect.upper


def test_fewer_requests_can_be_asked(planted):
    assert len(planted(1.0).requests) == 10
    assert len(Politeness(SimpleNamespace(chat=Words()), n_items=4).requests) == 4
