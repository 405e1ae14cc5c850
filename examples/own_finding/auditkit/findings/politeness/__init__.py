"""Whether a polite request gets more help (an invented finding, to show what a finding is made of)."""
