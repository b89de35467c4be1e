"""From a model that continues texts to one that answers: the chat format, the stages, the rounds."""
