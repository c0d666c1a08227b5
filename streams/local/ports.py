"""Ports of this machine: finds free ones, and checks for a Kafka on a port."""

import errno
import random
import socket
import struct

from streams.local.kafka_jars import BrokerError

# Below Linux's ephemeral range, from which an outgoing connection could take the port of a broker
# while it restarts.
FREE_PORTS = range(20_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a port of FREE_PORTS that nothing listens on now."""
    while not can_bind(host, port := random.choice(FREE_PORTS)):
        pass
    return port


def can_bind(host: str, port: int) -> bool:
    """Tells whether the port is free. Raises: BrokerError, if the address cannot be listened on."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As in Java: connections in TIME_WAIT do not count, listeners do.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise BrokerError(
            f"Cannot listen on {host}:{port} ({error.strerror}): SEATFLOW_BROKERS must be an"
            " address of this machine, e.g. 127.0.0.1:9092."
        ) from error
    return True


def kafka_answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Tells whether a Kafka listens there that knows at least one live broker.

    Sends one metadata request (version 1, no topics): api key, version, correlation id, client id,
    empty list. The response starts with its length, the correlation id and the number of brokers,
    which is 0 until a starting broker has registered.
    """
    body = struct.pack(">hhih8si", 3, 1, 1, 8, b"seatflow", 0)
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = b""
            while len(answer) < 12:
                received = connection.recv(4096)
                if not received:
                    return False
                answer += received
    except OSError:
        return False
    _, correlation, brokers = struct.unpack(">iii", answer[:12])
    return bool(correlation == 1 and brokers > 0)
