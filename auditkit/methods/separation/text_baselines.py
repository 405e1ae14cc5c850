"""What the words of statements alone can tell: which statements are alike, and a baseline without a model.

Statements for and against a persona differ in their words, so much that counting words often tells them apart. What a
layer adds is what it has above that. And a statement that comes twice, or nearly, must not be learnt from in one fold
and asked in another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def similar_statements(
    texts: Sequence[str], least: float = 0.8, *, pairs: Sequence[str] | None = None
) -> NDArray[np.str_]:
    """(rows,) groups of statements that belong together, each named by its first in alphabetical order.

    Alike are statements whose runs of three to five characters, weighted by tf-idf, have a cosine of at least `least`,
    and statements that are both alike to a third. Case and spacing do not count.

    Args:
        pairs: (rows,) a name that both statements of a pair have, empty for a statement without one. Pairs belong
            together however they read: split, the words that they share would point to the wrong label.

    Raises:
        ValueError: an empty statement, or another number of pairs than statements.
    """
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_extraction.text import TfidfVectorizer

    plain = _plain(texts)
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform(plain)
    edges = ((vectors @ vectors.T) >= least).tolil()
    if pairs is not None:
        if len(pairs) != len(plain):
            raise ValueError(f"{len(plain)} statements need as many names of pairs, got {len(pairs)}")
        first_of: dict[str, int] = {}
        for row, pair in enumerate(pairs):
            edges[row, first_of.setdefault(pair, row) if pair else row] = True
    _, labels = connected_components(edges.tocsr(), directed=False)
    first: dict[int, str] = {}
    for label, text in sorted(zip(labels.tolist(), plain, strict=True)):
        first.setdefault(label, text)
    return np.array([first[label] for label in labels.tolist()])


def bag_of_words(texts: Sequence[str]) -> NDArray[np.float64]:
    """(rows, words and pairs of words) tf-idf, rows of length 1: a statement without model or context.

    The weights see all texts and no labels. Give it to a probe with `standardise=False`.

    Raises:
        ValueError: an empty statement.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    return np.asarray(vectoriser.fit_transform(_plain(texts)).toarray(), dtype=np.float64)


def no_text_in_two_groups(texts: Sequence[str], groups: NDArray[np.str_]) -> None:
    """Refuse statements that are the same but for case and spacing and not in one group.

    Raises:
        ValueError: naming the first two.
    """
    first: dict[str, int] = {}
    for row, text in enumerate(_plain(texts)):
        before = first.setdefault(text, row)
        if groups[before] != groups[row]:
            raise ValueError(
                f"rows {before} and {row} are the same statement in two groups, so it could be learnt in one fold and "
                "asked in another; group them (text_baselines.similar_statements) or drop one"
            )


def _plain(texts: Sequence[str]) -> list[str]:
    plain = [" ".join(text.lower().split()) for text in texts]
    if "" in plain:
        raise ValueError(f"statement {plain.index('')} is empty")
    return plain
