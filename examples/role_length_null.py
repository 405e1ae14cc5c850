"""RFC and RSI of even attention beside those of a model: published and repaired numbers, and their length null.

    python examples/role_length_null.py [--model SPEC] [--prompts FILE]

The prompts (examples/role_prompts.csv) are lists about different things, as the published ones are, and of different
lengths. The model is measured as it is, and once more with its queries set to zero in memory, so that every head
spreads its attention evenly: then prompts differ in nothing but their lengths.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from auditkit import open_model
from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.findings.role_conditioning.figures import words
from auditkit.findings.role_conditioning.measurements.conditioning import AGGREGATIONS, INDICES, RoleConditioning
from auditkit.findings.role_conditioning.prompts.sets import role_lists


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="a family with q_proj weights (default: %(default)s)"
    )
    parser.add_argument(
        "--prompts", default=str(Path(__file__).parent / "role_prompts.csv"), help="lists by category"
    )
    arguments = parser.parse_args()
    model, lists = open_model(arguments.model), role_lists(arguments.prompts)
    print_indices("as it is", RoleConditioning(model, seed=0, lists=lists))
    with torch.no_grad():
        for name, parameter in model.module.named_parameters():
            if ".q_proj." in name:
                parameter.zero_()
    print_indices("even attention", RoleConditioning(model, seed=0, lists=lists))


def print_indices(title: str, role: RoleConditioning) -> None:
    print(f"{title}: {role.arm().matched.left_out}")
    for name in INDICES:
        for way in AGGREGATIONS:
            null = role.length_null(name, way)
            print(f"  {name} as published, {way:<11} {words(role.published(name, way))}  length null {null:+.4f}")
        print(f"  {name} repaired                 {words(role.arm().index(name))}  length null 0")


if __name__ == "__main__":
    main()
