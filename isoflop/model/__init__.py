"""The Llama network: parameters, forward pass, weights from and to other people's files."""
