"""A process that gives up what it does not need, for good: for decoders of what strangers upload.

Landlock (Linux 5.13) leaves it one folder, seccomp takes sockets, other processes and the rest of the kernel's
larger doors. Both are of the kernel itself and need no privilege: see landlock(7) and seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

_FILE_RIGHTS = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}
"""Rights over files by the version of Landlock that brought them: all bits below this one."""
_READ_FILE, _WRITE_FILE, _READ_DIR = 1 << 2, 1 << 1, 1 << 3
_REMOVE, _MAKE = 1 << 4 | 1 << 5, 1 << 7 | 1 << 8  # directories and files; directories and regular files
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_SCRATCH = _READ_FILE | _WRITE_FILE | _READ_DIR | _REMOVE | _MAKE | _TRUNCATE

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_DENIED = {  # system calls, by their numbers for x86_64 and aarch64 (None: it has no such)
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "execveat": (322, 281), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kill": (62, 129), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "chroot": (161, 51),
    "pivot_root": (155, 41), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "init_module": (175, 105),
    "finit_module": (313, 273), "kexec_load": (246, 104), "open_by_handle_at": (304, 265), "acct": (163, 89),
    "swapon": (167, 224), "reboot": (169, 142), "sethostname": (170, 161),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000


class SandboxError(OSError):
    """The kernel does not give it: one sentence."""


def enter(scratch: Path | None, code: Iterable[Path] = ()) -> list[str]:
    """Keep this process, and all that it starts, to the files below ``scratch``, for as long as it lives.

    ``None``: to no files at all.

    Below the folders of ``code`` it may read, for modules that are imported when they are first needed.

    From now on no other file can be opened, and no socket or process be made; what is open stays open. Returns
    what this kernel lacks ("landlock", "seccomp"): then that part is not in force. Raises :class:`SandboxError`
    where it has it and refuses it all the same, or where there are other threads, which would stay outside.
    """
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise SandboxError(
            "a process with several threads cannot enter a sandbox: enter it before they begin"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    _call("no_new_privs", libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    lacking = [] if _landlock(libc, scratch, code) else ["landlock"]
    if not _seccomp(libc):
        lacking.append("seccomp")
    return lacking


def bound_memory(most: int) -> int:
    """Give this process at most so many bytes of memory, and at most half of its container's; returns how many."""
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            most = min(most, int(Path(file).read_text()) // 2)
        except (OSError, ValueError):
            continue
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return most


def _call(what: str, result: int) -> int:
    if result < 0:
        raise SandboxError(f"the kernel refuses {what}: {os.strerror(ctypes.get_errno())}")
    return result


def _landlock(libc: ctypes.CDLL, scratch: Path | None, code: Iterable[Path]) -> bool:
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 0:
        if ctypes.get_errno() in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return False
        raise SandboxError(f"the kernel refuses landlock: {os.strerror(ctypes.get_errno())}")
    handled = _FILE_RIGHTS[max(known for known in _FILE_RIGHTS if known <= version)] - 1
    attributes = struct.pack("=Q", handled)
    ruleset = _call(
        "landlock", libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    )
    rules = [(folder, _READ_FILE | _READ_DIR) for folder in code]
    if scratch is not None:
        rules.append((scratch, _SCRATCH))
    try:
        for path, rights in rules:
            folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", rights & handled, folder)
                _call("landlock", libc.syscall(_LANDLOCK_ADD, ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0))
            finally:
                os.close(folder)
        _call("landlock", libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _seccomp(libc: ctypes.CDLL) -> bool:
    """All threads of later get the filter; call it before there are others."""
    machine = _ARCHITECTURES.get(platform.machine())
    if machine is None:
        return False
    code = b"".join(_program(*machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) < 0:
        if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS):
            return False
        raise SandboxError(f"the kernel refuses seccomp: {os.strerror(ctypes.get_errno())}")
    return True


def _program(architecture: int, column: int) -> Iterator[bytes]:
    """The filter, in classic BPF (linux/filter.h) over struct seccomp_data: number, architecture, arguments."""

    def load(offset: int) -> bytes:
        return struct.pack("=HBBI", 0x20, 0, 0, offset)  # BPF_LD | BPF_W | BPF_ABS

    def unless_equal(value: int, skip: int) -> bytes:
        return struct.pack("=HBBI", 0x15, 0, skip, value)  # BPF_JMP | BPF_JEQ | BPF_K

    def end(action: int) -> bytes:
        return struct.pack("=HBBI", 0x06, 0, 0, action)  # BPF_RET | BPF_K

    kill, allow = 0x80000000, 0x7FFF0000
    refuse = 0x00050000 | errno.EPERM
    yield load(4)
    yield struct.pack("=HBBI", 0x15, 1, 0, architecture)
    yield end(kill)  # of another architecture: its numbers mean other calls
    yield load(0)
    yield struct.pack("=HBBI", 0x35, 0, 1, _X32)  # BPF_JGE: the x32 calls
    yield end(refuse)
    for numbers in _DENIED.values():
        if (number := numbers[column]) is not None:
            yield unless_equal(number, 1)
            yield end(refuse)
    yield unless_equal(_CLONE3[column], 1)
    yield end(0x00050000 | errno.ENOSYS)  # its flags cannot be seen here; libc goes on with clone
    yield unless_equal(_CLONE[column], 4)
    yield load(16)  # the first argument: flags
    yield struct.pack("=HBBI", 0x45, 0, 1, _CLONE_THREAD)  # BPF_JSET
    yield end(allow)
    yield end(refuse)
    yield end(allow)
