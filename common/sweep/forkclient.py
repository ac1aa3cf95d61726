"""A stand-in for a process that the fork server starts: same standard streams, same end, and signals go through.

    python -I -S forkclient.py SOCKET module arguments…

Imports nothing but the standard library's core, so that it starts in a few hundredths of a second.
"""

import json
import os
import select
import signal
import socket
import sys


def main() -> None:
    address, module, *arguments = sys.argv[1:]
    parent = os.getppid()
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    asked = {"module": module, "arguments": arguments, "cwd": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(asked).encode()
    socket.send_fds(server, [len(text).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(text)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: server.send(bytes([got])))
    while os.getppid() == parent:  # when the parent is gone, so is this one's end of the socket, and the server kills
        if select.select([server], [], [], 1.0)[0]:
            said = server.recv(4)
            code = int.from_bytes(said, "big", signed=True) if len(said) == 4 else 1  # 1: the server is gone
            if code < 0:  # ended by a signal, so end by the same
                if -code != signal.SIGKILL:
                    signal.signal(-code, signal.SIG_DFL)
                os.kill(os.getpid(), -code)
            os._exit(code)
    os._exit(1)


if __name__ == "__main__":
    main()
