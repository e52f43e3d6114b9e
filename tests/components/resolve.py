"""Lets a program of ours resolve names that no DNS server knows: `*.s3.example` is this machine."""

import socket


def resolve_to_loopback(suffixes: list[str]) -> None:
    """Names that end in one of `suffixes` become 127.0.0.1, in this process."""
    original = socket.getaddrinfo

    def getaddrinfo(host, *rest, **options):
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and any(name == suffix or name.endswith("." + suffix) for suffix in suffixes):
            host = "127.0.0.1"
        return original(host, *rest, **options)

    socket.getaddrinfo = getaddrinfo
