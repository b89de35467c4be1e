"""Published numbers recomputed from published data: one file a paper, each a function from a folder to checks."""
