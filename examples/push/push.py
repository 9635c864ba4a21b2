#!/usr/bin/env python3
"""Pushes a message into a group, from Python, with its standard library only:

    python3 push.py chat.lobby '{"type":"chat.message","user":"python","text":"hello"}'
    python3 push.py --addr 10.0.0.5:4222 chat.lobby '{...}'

or, from a program: push("chat.lobby", {"type": "chat.message", ...}).
"""

import argparse
import json
import os
import socket
import sys


def push(group, message, addr="127.0.0.1:4222"):
    """Returns when the NATS server at addr has taken the message, a dict."""
    host, _, port = addr.rpartition(":")
    data = json.dumps(message).encode()
    with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as s:
        # PING is answered once everything before it was taken.
        s.sendall(
            b'CONNECT {"verbose":false}\r\n'
            + b"PUB channels.grp.%s %d\r\n%s\r\n" % (group.encode(), len(data), data)
            + b"PING\r\n"
        )
        with s.makefile("rb") as answers:
            for line in answers:
                if line.startswith(b"PONG"):
                    return
                if line.startswith(b"-ERR"):
                    raise ConnectionError(line.decode().strip())
    raise ConnectionError("the server has closed the connection")


def main():
    parser = argparse.ArgumentParser(description="Push a message into a group.")
    parser.add_argument("group", help="for example chat.lobby")
    parser.add_argument("message", type=json.loads, help='a JSON object with a "type"')
    parser.add_argument(
        "--addr",
        default=os.environ.get("NATS_ADDR", "127.0.0.1:4222"),
        help="of the NATS server; default $NATS_ADDR or 127.0.0.1:4222",
    )
    args = parser.parse_args()
    try:
        push(args.group, args.message, args.addr)
    except OSError as e:
        sys.exit(f"push.py: {args.addr}: {e}")


if __name__ == "__main__":
    main()
