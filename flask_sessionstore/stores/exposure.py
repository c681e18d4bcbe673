"""Whether a store's engine is on another machine, and the risks of that."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path

#: The file systems that are mounted, as Linux lists them.
MOUNTS = Path("/proc/self/mounts")

# On some of these, locks do not work between machines; on others they do only if everything is set up for it.
_NETWORK = re.compile(
    r"(nfs|cifs|smb|9p|afs|ceph|gpfs|lustre|beegfs|fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|rclone)).*"
)


def is_elsewhere(host: str) -> bool:
    """Whether data sent to ``host`` leaves this machine."""
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") != "localhost"


def clear_text(hosts: list[str], instead: str) -> list[str]:
    """A finding for each of these hosts that is on another machine.

    :param hosts: hosts with which the connection is not encrypted.
    :param instead: what to write to encrypt it.
    """
    elsewhere = sorted({host for host in hosts if is_elsewhere(host)})
    return [
        f"Records travel to {host} without encryption, so others can read and change them: {instead}."
        for host in elsewhere
    ]


def unchecked_names(hosts: list[str], instead: str) -> list[str]:
    """A finding for each of these hosts that is on another machine.

    :param hosts: hosts whose names are not compared with their certificates.
    :param instead: what to do so that they are.
    """
    return [
        f"Records travel to {host} by TLS without a check of the host's name, so another server can pose as {host}:"
        f" {instead}."
        for host in sorted({host for host in hosts if is_elsewhere(host)})
    ]


def network_risk(what: str, path: str) -> list[str]:
    """A finding if ``path`` (which need not exist yet) is on a network file system.

    :param what: what is at ``path``, at the beginning of a sentence.
    """
    kind = _network_file_system(path)
    risk = (
        f"{what} is on a network file system ({kind}), whose locks are not reliable, so writes may be lost: use a local"
        " disk or, for several machines, Redis or a database with a server."
    )
    return [] if kind is None else [risk]


def _network_file_system(path: str) -> str | None:
    """The type of the file system of ``path``, if it is a network file system.

    None if it is not, or if that cannot be found out.
    """
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text(errors="surrogateescape").split("\n") if line]
    except OSError:
        return None
    real = os.path.realpath(path)
    # The innermost mount point counts; of several mounts at one point, the last.
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
