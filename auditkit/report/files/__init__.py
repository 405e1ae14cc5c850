"""Reports as files for other tools: JUnit, Markdown, CSV, model card, annotations."""
