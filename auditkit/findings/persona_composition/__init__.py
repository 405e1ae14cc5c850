"""Whether the states of a persona and of a task add up (Xu 2026)."""
