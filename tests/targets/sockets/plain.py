"""Does with sockets what it is told on standard input, one word a line, and answers each with a line of JSON.

listen · serve · accept · connect PORT [N] · churn PORT N · send I N · read I · close I · fork; N counts, I is a
number of a connection, in the order in which they came.
"""

import json
import os
import selectors
import socket
import sys
import threading

servers, connections, children = [], [], []


def answer(word, *arguments):
    numbers = [int(each) for each in arguments]
    if word == "listen":
        servers.append(socket.create_server(("127.0.0.1", 0), backlog=256))
        return servers[-1].getsockname()[1]
    if word == "connect":
        for _ in range(numbers[1] if len(numbers) > 1 else 1):
            connections.append(socket.create_connection(("127.0.0.1", numbers[0])))
        return len(connections)
    if word == "serve":  # accept for ever, and close what the client has closed
        server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        threading.Thread(target=accept_all, args=(server,), daemon=True).start()
        return server.getsockname()[1]
    if word == "accept":
        connections.append(servers[-1].accept()[0])
        return len(connections)
    if word == "churn":  # connect and close again, so often
        for _ in range(numbers[1]):
            socket.create_connection(("127.0.0.1", numbers[0])).close()
        return numbers[1]
    if word == "send":
        return connections[numbers[0]].send(b"x" * numbers[1])
    if word == "read":
        return len(connections[numbers[0]].recv(65536))
    if word == "close":
        connections[numbers[0]].close()
        return numbers[0]
    if word == "fork":  # a child that keeps what it inherited until its input, which is ours, ends
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        children.append(writer)
        return child
    raise ValueError(word)


def accept_all(server):
    """Accept connections, and close each when its client has."""
    waiting = selectors.DefaultSelector()
    waiting.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is server:
                waiting.register(server.accept()[0], selectors.EVENT_READ)
            elif not key.fileobj.recv(65536):
                waiting.unregister(key.fileobj)
                key.fileobj.close()


print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(*line.split())), flush=True)
for writer in children:
    os.close(writer)
for _ in children:
    os.wait()
