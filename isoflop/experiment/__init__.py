"""The whole loop: corpus and budget in; sweep, law, plan, trained model, score and report out."""
