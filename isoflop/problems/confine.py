"""The inside of the sandbox: a process takes every ability but computing away from itself.

Limits hold wherever POSIX does. On Linux the kernel also refuses every system call but those that computing and reading
take (seccomp), and every file but Python's library and the program's own folder (Landlock); both need no privilege and
bind root too. What a kernel does not know is passed over: ``sandbox.weaknesses`` finds out by trying. An allow-list,
because what is not known yet must be refused too. Numbers are the kernel's, for x86-64 and 64-bit ARM (the latter not
run here). Threads, child processes and sockets are refused with the rest.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys

DIE_WITH_PARENT, NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 1, 38, 22, 2  # of prctl
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # alike on every architecture
ASK_VERSION, BENEATH_PATH = 1, 1
READ = 1 << 2 | 1 << 3  # files, folders
# Rights to files that Landlock knows by version: those that it does not know it cannot take away.
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # of the filter's machine
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in what the filter sees of a call
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# By architecture: its audit number, the calls allowed, and those that open files with the place of their flags.
# Allowed: reading and writing what is open, what is known of files, memory, locks, signals to oneself, clocks, leaving.
CALLS: dict[str, tuple[int, tuple[int, ...], dict[int, int]]] = {
    "x86_64": (
        0xC000003E,
        (
            *(0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 23, 24, 25, 28, 32, 33, 35, 39),
            *(60, 63, 72, 79, 89, 96, 98, 99, 100, 102, 104, 107, 108, 110, 131, 186, 202, 204, 217, 219, 228, 229),
            *(230, 231, 262, 267, 269, 270, 271, 273, 292, 293, 318, 332, 334, 439),
        ),
        {2: 1, 257: 2},
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(17, 23, 24, 25, 29, 48, 57, 59, 61, 62, 63, 64, 65, 66, 67, 72, 73, 78, 79, 80, 93, 94, 98, 99, 101),
            *(113, 114, 115, 123, 124, 128, 132, 134, 135, 139, 153, 160, 165, 169, 172, 173, 174, 175, 176, 177),
            *(178, 179, 214, 215, 216, 222, 226, 233, 278, 291, 293, 439),
        ),
        {56: 2},
    ),
}


class Instruction(ctypes.Structure):
    """``struct sock_filter``."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class Filter(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction)))


class Beneath(ctypes.Structure):
    """``struct landlock_path_beneath_attr``."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def limit(memory: int, seconds: int) -> None:
    """Bound what the process can use: bytes of address space, processor seconds, open files; no file grows at all."""
    bounds = {"AS": memory, "CPU": seconds, "FSIZE": 0, "NPROC": 0, "NOFILE": 32, "CORE": 0}
    for name, most in bounds.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        spare = name == "CPU"  # the soft limit's signal tells of time, the hard one's of nothing
        if kind is not None:
            with contextlib.suppress(ValueError, OSError):  # macOS refuses bounds on address space
                resource.setrlimit(kind, (most, most + spare))


def hide_files(libc: ctypes.CDLL) -> None:
    """Landlock: no file but Python's library and this folder, and those to read only."""
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ASK_VERSION)
    if version < 1:
        return
    handled = ctypes.c_uint64((1 << RIGHTS[min(version, max(RIGHTS))]) - 1)
    rules = libc.syscall(LANDLOCK_CREATE, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    libraries = (os.path.dirname(os.__file__), "/lib", "/lib64", "/usr/lib", "/usr/lib64")
    for path in (*libraries, "."):
        if os.path.isdir(path):
            folder = os.open(path, os.O_RDONLY)
            rule = Beneath(READ, folder)
            libc.syscall(LANDLOCK_ADD, rules, BENEATH_PATH, ctypes.byref(rule), 0)
            os.close(folder)
    libc.syscall(LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def instructions(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter of system calls as (code, jump if so, jump if not, value); empty for an unknown architecture."""
    if machine not in CALLS:
        return []
    architecture, allowed, opening = CALLS[machine]
    found = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    for number in allowed:
        found += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    for number, flags in opening.items():
        found += [(EQUAL, 0, 4, number), (LOAD, 0, 0, ARGUMENTS + 8 * flags), (ANY_BIT, 1, 0, WRITING)]
        found += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    return [*found, (RETURN, 0, 0, REFUSE)]


def refuse_calls(libc: ctypes.CDLL) -> None:
    """Seccomp: no system call that is not listed."""
    program = instructions(os.uname().machine)
    if program:
        array = (Instruction * len(program))(*(Instruction(*fields) for fields in program))
        libc.prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(Filter(len(program), array)), 0, 0)


def confine(memory: int, seconds: int) -> None:
    """Take every ability away that this kernel lets a process take from itself; there is no way back."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        hide_files(libc)
        limit(memory, seconds)
        refuse_calls(libc)
    else:
        limit(memory, seconds)
