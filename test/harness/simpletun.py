"""The other end of frames over TCP, as the TUN/TAP tutorials have it: plain read and write, each frame behind its length, 2 bytes big-endian.

  simpletun.py DEVICE tun|tap listen ADDRESS PORT   accepts one connection
  simpletun.py DEVICE tun|tap connect ADDRESS PORT  connects, trying for 10 s

Says "ready" when the device is attached (and the socket listens), "open" when it is connected; ends with the connection.
"""

import fcntl
import os
import select
import socket
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI = 1, 2, 0x1000
BUFFER_BYTES = 2000


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def main():
    name, kind, role, address, port = sys.argv[1:6]
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), (IFF_TAP if kind == "tap" else IFF_TUN) | IFF_NO_PI))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if role == "listen":
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, int(port)))
        listener.listen(1)
        print("ready", flush=True)
        connection = listener.accept()[0]
        listener.close()
    else:
        print("ready", flush=True)
        for _ in range(100):
            try:
                connection = socket.socket(family)
                connection.connect((address, int(port)))
                break
            except OSError:
                connection.close()
                time.sleep(0.1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("open", flush=True)
    while True:
        readable = select.select([device, connection], [], [])[0]
        if device in readable:
            frame = os.read(device, BUFFER_BYTES)
            connection.sendall(struct.pack("!H", len(frame)) + frame)
        if connection in readable:
            (length,) = struct.unpack("!H", read_exactly(connection, 2))
            frame = read_exactly(connection, length)
            if length > BUFFER_BYTES:
                sys.exit("a frame of %d bytes does not fit" % length)
            os.write(device, frame)


main()
