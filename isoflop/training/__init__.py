"""Training: schedules as functions of tokens, the loss, the optimiser, checkpoints and the loop."""
