"""Data-mix search: many small proxies on sampled mixtures, a law fitted to their losses, weights chosen with doubt."""
