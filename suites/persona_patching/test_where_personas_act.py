"""Where persona words act in the network (Poonia & Jain 2025, arXiv:2507.20936)."""

from auditkit import control, mlp, shown


def test_early_mlps_carry_the_persona(patching, threshold):
    """Restoring the MLP layers at depth 0.06-0.19 recovers at least 30 % of the persona effect, and more than
    bands of the same width elsewhere."""
    early = mlp.at_depth(0.06, 0.19)
    patching.layer_curve(mlp.everywhere(), bands={"depth 0.06-0.19": early})
    recovered, elsewhere = patching.recoveries(early, patching.random_bands(early))
    shown("bands of the same width elsewhere", elsewhere)
    assert recovered >= threshold(0.30)
    assert recovered > elsewhere


def test_first_mlp_acts_at_the_identity_word(patching, threshold):
    """Restoring the first MLP at the identity word alone recovers the same share of the persona effect, within
    0.20, as restoring it at every position."""
    first = mlp.layer(0)
    at_the_word, everywhere, elsewhere = patching.recoveries(first["identity"], first, first["elsewhere"])
    with control("the same patch at another position recovers at most 5 %"):
        assert elsewhere <= 0.05
    assert at_the_word.equals(everywhere, within=threshold(0.20, "suite default, after a ratio of at least 0.8"))
