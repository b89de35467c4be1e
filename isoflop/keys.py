"""Named keys from one seed, and the integer mixer that everything keyed is built from.

A key depends on its seed and names alone: not on the process, the platform or the Python version, and not on
how many other keys were drawn before it.
"""

import numpy as np
import xxhash
from numpy.typing import NDArray

UInt64s = NDArray[np.uint64]


def derive_key(seed: int, *names: str | int) -> int:
    """A 64-bit key for what ``names`` name. Lists that differ give keys that differ, whatever is in them."""
    return xxhash.xxh3_64_intdigest(repr((seed, *names)).encode())


def mix(values: UInt64s) -> UInt64s:
    """A bijection of 64-bit integers: every input bit moves every output bit (splitmix64's finaliser).

    Elementwise, any shape; arithmetic is modulo 2**64.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def keyed(values: UInt64s, key: int) -> UInt64s:
    """The values hashed under a key: the same values under two keys are unrelated."""
    return mix(mix(values) ^ np.uint64(key))
