"""Write a copy of a model with a little noise in its MLPs: a candidate to compare with the model it comes from.

    python examples/perturbed.py FOLDER [--model SPEC] [--share 0.05] [--seed 0]

Every MLP weight gets Gaussian noise whose standard deviation is `share` of that of its matrix.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.load import load


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the copy")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to copy (default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.05, help="size of the noise (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    loaded = load(arguments.model)
    draw = torch.Generator().manual_seed(arguments.seed)
    with torch.no_grad():
        for name, weight in loaded.module.named_parameters():
            if ".mlp." in name and weight.ndim == 2:
                noise = torch.randn(weight.shape, generator=draw, dtype=torch.float32)
                weight += (arguments.share * weight.float().std() * noise).to(weight.dtype)
    loaded.module.save_pretrained(arguments.folder)
    loaded.tokenizer.save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()
