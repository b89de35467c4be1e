"""The forms of scaling law, as values; one paper's form a file."""
