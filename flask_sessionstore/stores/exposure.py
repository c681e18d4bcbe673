"""Where a store's engine is, seen from here: what is risky there."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path

#: The file systems that are mounted, as Linux lists them.
MOUNTS = Path("/proc/self/mounts")

# On some of these, locks do not hold between machines; on others they do if everything is set up for it.
_NETWORK = re.compile(
    r"(nfs|cifs|smb|9p|afs|ceph|gpfs|lustre|beegfs|fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|rclone)).*"
)


def is_elsewhere(host: str) -> bool:
    """Whether what is sent to ``host`` leaves this machine."""
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") != "localhost"


def clear_text(hosts: list[str], instead: str) -> list[str]:
    """A finding for each host that is elsewhere, given those that are spoken to without encryption."""
    elsewhere = sorted({host for host in hosts if is_elsewhere(host)})
    return [
        f"Records travel to {host} without encryption, so others can read and change them: {instead}."
        for host in elsewhere
    ]


def network_file_system(path: str) -> str | None:
    """The type of the file system that ``path`` is on, or will be, if it is one of a network.

    None if it is not, and where nobody can tell.
    """
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text(errors="surrogateescape").split("\n") if line]
    except OSError:
        return None
    real = os.path.realpath(path)
    # The innermost; of several in one place, the last.
    found = (
        (len(point), number, kind)
        for number, (escaped, kind) in enumerate(mounts)
        if _is_below(real, point := _unescaped(escaped))
    )
    kind = max(found, default=(0, 0, ""))[2]
    return kind if _NETWORK.fullmatch(kind) else None


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
