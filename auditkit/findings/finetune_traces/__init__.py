"""Traces of fine-tuning: can what a model was tuned on be read from its activations on unrelated text?"""
