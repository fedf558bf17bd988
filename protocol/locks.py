"""Locks on open files: one process has a file, and the kernel gives the lock back when that process ends.

Everything that dotsctl locks goes through this module. A lock is ``flock`` where the volume supports it. Some network
volumes do not, as NFS without a lock service or with ``nolocks``; there it is a **record lock** (POSIX ``fcntl``). A
record lock excludes other processes, but no second lock of the same process, and it ends as soon as the process closes
any descriptor of the file. On a volume without either kind nothing is locked: that is an error, never a silent success.
"""

import errno
import fcntl

UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
"""Answers of a volume that knows no such lock."""


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file, and return whether that succeeded; false: another process holds it.

    Args:
        descriptor: of the file, open for reading and writing.
        shared: let others have such a lock as well, as those who only check whether somebody holds it.

    Raises:
        OSError: the volume supports neither kind of lock (ENOTSUP), or the disk fails.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return _try_record_lock(descriptor, operation)
    return True


def try_record_lock(descriptor: int) -> bool:
    """Lock an open file by a record lock, which child processes do not inherit; return whether that succeeded.

    Raises:
        OSError: as :func:`try_lock`.
    """
    return _try_record_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _try_record_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.lockf(descriptor, operation)
    except (BlockingIOError, PermissionError):  # as the system likes
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        text = "the volume supports no file locks"
        raise OSError(errno.ENOTSUP, text) from None
    return True
