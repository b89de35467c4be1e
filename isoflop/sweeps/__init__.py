"""Sweeps: an IsoFLOP grid as run directories, trained by local worker processes."""
