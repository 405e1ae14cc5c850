"""Sycophancy: does the model agree with whoever speaks, against what it knows?"""
