"""How a process leaves the processors to others, and takes what they do not want.

The least weight rather than ``SCHED_IDLE``. That policy counts only among tasks of one scheduling
group, and each session (autogroup) and each cgroup is one. From a group of its own a task under it
is not interrupted by one that is woken, which the kernel has moreover placed just there: to it, a
processor with nothing but such tasks is idle. The woken one waits for the next tick, 4 ms at most.

One core is left alone. A processor that is never idle takes no waiting task over from another one.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from contextlib import suppress

NICE = 19  # weight 15 of 1,024
# The longest slice that the kernel gives: what is woken interrupts those with longer slices than
# its own at once (PREEMPT_SHORT), all others only when they have had theirs.
SLICE_NS = 100_000_000
_AUTOGROUP = "/proc/self/autogroup"
# The kernel takes one such change in a tenth of a second, of all users together.
_AUTOGROUP_TRIES, _AUTOGROUP_PAUSE_S = 20, 0.1
# sched_setattr(2) has no function in libc before glibc 2.41; numbers from the kernel's tables.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


class _Attributes(ctypes.Structure):
    """``struct sched_attr`` of sched_setattr(2), its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def stand_back() -> None:
    """Only what nobody else wants of the processors is ours and all our children's, from now on.

    Each step does what it can here, and none needs a privilege.
    """
    with suppress(OSError, AttributeError):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[1:] or allowed)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    # Those of this policy interrupt nobody when they are woken.
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        _lengthen_slice()
    if os.getsid(0) == os.getpid():  # else the group is not ours alone
        _lower_group()


def _lengthen_slice() -> None:
    """From Linux 6.12 on; those before take the call and ignore the slice."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None:
        wanted = _Attributes(policy=os.SCHED_BATCH, nice=NICE, runtime_ns=SLICE_NS)
        wanted.size = ctypes.sizeof(wanted)
        ctypes.CDLL(None).syscall(number, 0, ctypes.byref(wanted), 0)


def _lower_group() -> None:
    """With ``CONFIG_SCHED_AUTOGROUP`` the kernel weighs sessions, and tasks only within one."""
    for _ in range(_AUTOGROUP_TRIES):
        try:
            with open(_AUTOGROUP, "w") as file:
                file.write(str(NICE))
            return
        except BlockingIOError:
            time.sleep(_AUTOGROUP_PAUSE_S)
        except OSError:  # a kernel without them
            return
