"""Small models over text: which language, how good, how predictable, about what."""
