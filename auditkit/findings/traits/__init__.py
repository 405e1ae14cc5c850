"""Traits: does one direction carry a trait of the answers, and has a fine-tune moved the model along it (persona
vectors, arXiv:2507.21509)?"""
