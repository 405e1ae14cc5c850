"""Whether attention is more focused in questions about the model itself, and what fine-tuning changed of it."""
