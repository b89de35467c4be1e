"""What this machine offers a training run: device, compute type, compiler."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import torch

COMPILE_REPAID_BY = 1e11
"""FLOPs of a run above which compiling (about 15 s a shape on two cores) has paid for itself (docs/lab.md)."""


def device_for(wish: str) -> torch.device:
    """``cpu``, ``cuda``, or with ``auto`` a GPU where there is one."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda' was asked for, but torch finds no CUDA device; use 'auto' or 'cpu'")
    if wish == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def precision_for(wish: str, device: torch.device) -> torch.dtype:
    """The compute type: with ``auto`` bf16 where the hardware multiplies it natively, else fp32."""
    if wish == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_multiplies_bf16()
        )
        return torch.bfloat16 if native else torch.float32
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[wish]


@cache
def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 matrix instructions (AMX tiles or AVX-512 BF16)."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


@cache
def has_compiler() -> bool:
    """Whether torch can compile for the CPU: it finds a C++ compiler that works, and Python's headers are there."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        works = subprocess.run([get_cpp_compiler(), "--version"], capture_output=True, check=False).returncode == 0
    except Exception:  # torch names its own kinds, which differ between releases
        return False
    return works and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def compile_for(wish: str, device: torch.device, flops: float) -> tuple[bool, str]:
    """Whether to compile for ``flops`` of training a shape, and the reason as a sentence."""
    if wish == "never":
        return False, "eager, as asked"
    if device.type == "cpu" and not has_compiler():
        return False, "eager: no C++ compiler (or no Python headers) here; with them training is about twice as fast"
    if wish == "auto" and flops < COMPILE_REPAID_BY:
        return False, "eager: the run is too short to repay compiling"
    return True, "compiled"


def peak_resident() -> int:
    """Most bytes of memory that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def background_for(wish: str, device: torch.device) -> bool:
    """Whether checkpoints are written in a thread: with ``auto`` where the tensors are a GPU's."""
    return wish == "always" or (wish == "auto" and device.type == "cuda")
