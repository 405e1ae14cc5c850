"""Loaded once for all tests of the plugin.

pytester forgets what a run in this process imported. Every run would import it anew, which takes longer than all
of the runs together, and what registers itself with pyarrow cannot be imported a second time.
"""

import pandas.core.arrays.arrow.extension_types  # noqa: F401
import pyarrow.parquet  # noqa: F401

import auditkit.adapters.hf
import auditkit.plugin.session
import auditkit.stats.estimates  # noqa: F401
