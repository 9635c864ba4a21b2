#!/usr/bin/env python3
"""Pushes a message into a group, from Python, with its standard library only:

    python3 push.py chat.lobby '{"type":"chat.message","user":"python","text":"hello"}'
    NATS_ADDR=10.0.0.5:4222 python3 push.py ...

or, from a program: push("chat.lobby", {"type": "chat.message", ...}).
"""

import json
import os
import socket
import sys


def push(group, message, address="127.0.0.1:4222"):
    """Returns when the NATS server at address has the message."""
    host, _, port = address.rpartition(":")
    data = json.dumps(message).encode()
    with socket.create_connection((host, int(port)), timeout=5) as s:
        s.sendall(b'CONNECT {"verbose":false}\r\n')
        s.sendall(b"PUB channels.grp.%s %d\r\n%s\r\n" % (group.encode(), len(data), data))
        s.sendall(b"PING\r\n")  # answered once everything before it was taken
        answer = b""
        while b"\r\nPONG\r\n" not in answer:
            part = s.recv(4096)
            answer += part
            if not part or b"\r\n-ERR" in answer:
                raise ConnectionError(answer.decode().strip().splitlines()[-1])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    push(sys.argv[1], json.loads(sys.argv[2]), os.environ.get("NATS_ADDR", "127.0.0.1:4222"))
