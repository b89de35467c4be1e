"""From runs to laws: reading, robust global fits, uncertainty, IsoFLOP minima, validation, and what to run next."""
