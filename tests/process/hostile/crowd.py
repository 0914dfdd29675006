"""A crowd of bad connections: silent ones, and ones that drip their header or their body.

    crowd.py HOST PORT SILENT HEADS BODIES TOKEN

Says "ready" once all are open, opens what the server closes again, and ends with its standard input. It is a process of
its own, so that its file descriptors are its own.
"""

import select
import socket
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
SILENT, HEADS, BODIES = (int(number) for number in sys.argv[3:6])
HEAD = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + sys.argv[6].encode() + b"\r\n"
BODY = HEAD + b"Content-Length: 4000000\r\n\r\n"


def connect(first):
    try:
        connection = socket.create_connection((HOST, PORT), timeout=30)
        connection.setblocking(False)
        if first:
            connection.send(first)
        return connection
    except OSError:
        return None


def drip(connection, byte):
    """Whether the connection still lives."""
    if connection is None:
        return False
    try:
        if byte:
            connection.send(byte)
        return bool(connection.recv(4096))
    except BlockingIOError:
        return True
    except OSError:
        return False


kinds = [(b"", b"")] * SILENT + [(HEAD + b"X: ", b"x")] * HEADS + [(BODY, b" ")] * BODIES
connections = [connect(first) for first, _ in kinds]
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.2)[0]:
    for number, (first, byte) in enumerate(kinds):
        if not drip(connections[number], byte):
            if connections[number] is not None:
                connections[number].close()
            connections[number] = connect(first)
