"""Inference: text out of a trained run."""
