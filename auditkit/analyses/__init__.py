"""Methods, one module each. They know models and statistics but not pytest, so a notebook can use them too."""
