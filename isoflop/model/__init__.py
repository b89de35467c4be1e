"""The Llama network: parameters, forward pass, conversion from and to transformers' layout."""
