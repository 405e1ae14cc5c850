"""The default adapter: a transformers module, touched with forward hooks."""
