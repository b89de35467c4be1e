"""Laws that others published, as the same values that fits produce; each says which N, D and C it means.

Left out, until something needs them: Kaplan 2020 (non-embedding N, other axes), data-constrained and MoE
laws.
"""

from __future__ import annotations

import math

from .forms import Chinchilla, PowerLaw

HOFFMANN_2022 = Chinchilla(
    E=math.exp(0.5267228), A=math.exp(6.0073404), alpha=0.33917084, B=math.exp(6.0179186), beta=0.2849083
)
"""Chinchilla's approach 3 as first published: N with embeddings, C = 6ND, loss on MassiveText.

Hoffmann et al. 2022, arXiv 2203.15556; the unrounded logarithms are those of the paper's source. Its
optimiser stopped early, so it disagrees with approaches 1 and 2 of the same paper: for planning, take
:data:`BESIROGLU_2024`.
"""

BESIROGLU_2024 = Chinchilla(E=1.81686, A=482.006, alpha=0.34781, B=2085.43, beta=0.36585)
"""The refit of Chinchilla's own runs, read off its Figure 4: N with embeddings, D = C/6N, loss as there.

Besiroglu et al. 2024, "Chinchilla Scaling: A replication attempt", arXiv 2404.10102; standard errors
E .026, A 125, α .015, B 1293, β .021.
"""

LLAMA3_TOKENS = PowerLaw(coefficient=0.29936, exponent=0.53678)
"""Llama 3's compute-optimal tokens D*(C) = A·C^α: C in FLOPs = 6ND with N the whole model, D in tokens.

Grattafiori et al. 2024, "The Llama 3 Herd of Models", arXiv 2407.21783, section 3.2.1. The paper prints (α,
A) rounded to (.53, .29), which would give 10.5T tokens at its flagship budget; these are the unrounded
constants that its Figure 2 yields, and at C = 4.0e25 they give its headline, 402B parameters on 16.55T
tokens.
"""
