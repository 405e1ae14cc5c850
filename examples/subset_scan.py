"""Which units carry a persona, and do two personas share them? A subset scan from start to end, without pytest.

    python examples/subset_scan.py                       # invented activations in which the answer is known
    python examples/subset_scan.py one.npz two.npz       # yours: each with `activations` (statements, units),
                                                         # `positive` (statements,) and `texts` (statements,)

Read from top to bottom like a notebook; every step prints what it found. docs/subset-scan.md explains them.
"""

from __future__ import annotations

import sys

import numpy as np

from auditkit.methods.scanning.detection import Scanner, both_directions, units_of
from auditkit.methods.scanning.overlap import frequent, overlap, stability
from auditkit.methods.separation.detectors import beside_scan, detector_table
from auditkit.methods.separation.rotations import in_other_bases, massive_units, without
from auditkit.methods.separation.text_baselines import similar_statements

# -- Activations of statements for and against two personas ----------------------------------------------------------


def invented(first: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """240 statements at 200 units; half are positive, and 30 units from `first` on move by one standard deviation."""
    rng = np.random.default_rng(seed)
    values, positive = rng.normal(size=(240, 200)), np.arange(240) % 2 == 0
    values[np.ix_(positive, np.arange(first, first + 30))] += np.where(np.arange(30) % 2, 1.0, -1.0)
    values[:, 199] = 2500 + rng.normal(size=240)  # a massive activation
    return values, positive, [f"statement {i} of data set {seed}" for i in range(240)]


if len(sys.argv) == 3:
    files = [np.load(path) for path in sys.argv[1:]]
    personas = [(file["activations"], file["positive"].astype(bool), file["texts"].tolist()) for file in files]
    groups = [similar_statements(texts) for _, _, texts in personas]  # what must not be torn apart
elif len(sys.argv) == 1:
    personas = [invented(first, seed) for first, seed in ((0, 1), (15, 2))]  # units 15 to 29 are in both
    groups = [np.array(texts) for _, _, texts in personas]
else:
    sys.exit("give two .npz files, or none")

massive = [massive_units(values) for values, _, _ in personas]
for name, found in zip("AB", massive, strict=True):
    print(f"persona {name}: massive units {[one.unit for one in found] or 'none'}; left out")
left_out = sorted({one.unit for found in massive for one in found})
personas = [(without(values, left_out)[0], positive, texts) for values, positive, texts in personas]
n_units = personas[0][0].shape[1]

# -- Units found on one half of the statements, judged on the other --------------------------------------------------

scanner = Scanner("right")  # on both directions: unusually high, or unusually low, at each unit
for name, (values, positive, _), group in zip("AB", personas, groups, strict=True):
    held = scanner.held_out(both_directions(values), positive, group, permutations=199)
    print(
        f"\npersona {name}: {len(units_of(held.discovery.units, n_units))} units found on one half; on the other half "
        f"precision {held.precision:.2f}, recall {held.recall:.2f}, AUC {held.auc:.2f}, p = {held.significance.p:.3f}"
    )
    for row in detector_table(beside_scan(held, values)).rows:
        label, auc, precision, recall, called = row
        shown = "   -" if precision is None else f"{precision:.2f}"
        print(f"    {label:28} AUC {auc:.2f}  precision {shown}  recall {recall:.2f}  ({called} called positive)")

# -- The published protocol: repeated scans, and what they agree on --------------------------------------------------

sets = []
for name, (values, positive, _) in zip("AB", personas, strict=True):
    third = int((~positive).sum()) // 3
    runs = scanner.repeated(
        both_directions(values), positive, runs=20, background=2 * third, clean=third, planted=third
    )
    units = [units_of(run.units, n_units) for run in runs]
    alike = stability(units, n_units)
    sets.append(frequent(units, n_units))
    union = frequent(units, n_units, least=1 / 20)
    print(
        f"\npersona {name}: {len(sets[-1])} units in at least half of 20 runs, {len(union)} in any; "
        f"Jaccard between runs {alike.jaccard:.2f}, by chance {alike.chance:.2f}"
    )

# -- Do they share units, and is it about units at all? --------------------------------------------------------------

shared = overlap(sets, n_units)
z = "not defined" if shared.z is None else f"{shared.z:.1f}"
print(f"\nshared units: {shared.observed}, by chance {shared.expected:.1f}, z = {z}")


def overlap_z(turn) -> float:
    """The same number after `turn` was applied to all activations."""
    scans = [scanner.detect(both_directions(turn(values)), ~positive) for values, positive, _ in personas]
    return overlap([units_of(one.units, n_units) for one in scans], n_units).z or 0.0


print("overlap of single scans:", in_other_bases(overlap_z, n_units, rotations=20).says(3.0))
