"""Cuts the network for every Python process with this folder on its PYTHONPATH.

This machine itself stays reachable. On every system, Python imports a module of this name when it
starts; an audit hook cannot be removed again. What a library does outside Python is not seen: on
Linux the workflow cuts the network in the kernel as well.
"""

import errno
import ipaddress
import socket
import sys

NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname()}


def is_here(host):
    """Whether an address is this machine's own: only such a one can be bound."""
    if host is None or host in NAMES:
        return True
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (ValueError, OSError):
        return False
    return True


def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = (
            address[0] if isinstance(address, tuple) else None
        )  # else a socket in the file system
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if not is_here(host):
        raise OSError(errno.ENETUNREACH, f"the network is cut while tests run; wanted: {host}")


sys.addaudithook(refuse)
