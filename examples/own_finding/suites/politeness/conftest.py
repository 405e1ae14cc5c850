"""Is the model more willing to help when it is asked politely?

The measurement that the claims of this suite share.
"""

import pytest
from auditkit.findings.politeness.measurements import Politeness


@pytest.fixture(scope="package")
def politeness(model, audit):
    """Requests in three manners, asked of the audited model; asked once, used by every claim."""
    return Politeness(model, n_items=audit.items)
