"""The pytest plugin: options, fixtures, outcomes. Glue only; what it glues together lives in the other layers."""
