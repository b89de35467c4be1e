"""How good a model is, with intervals: likelihoods, choices, answers."""
