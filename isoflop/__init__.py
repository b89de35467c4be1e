"""isoflop: from a compute budget and a corpus to a trained Llama whose loss was predicted.

Importing this package costs nothing: each room (``isoflop.laws``, ``isoflop.model``, …) is imported by name.
"""

__version__ = "0.1.0"
