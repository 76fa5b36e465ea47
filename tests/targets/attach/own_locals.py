"""Functions at work that keep what `locals()` gave them; answers each line with how much is still in it."""

import sys
import threading


def serve(request, begun, done):
    mine = locals()
    begun.set()
    done.wait()
    return mine


def steps(request):
    mine = locals()
    while True:
        yield len(mine)


def main():
    begun, done, suspended = threading.Event(), threading.Event(), steps("a request")
    next(suspended)
    found = []
    thread = threading.Thread(target=lambda: found.append(serve("a request", begun, done)), daemon=True)
    thread.start()
    begun.wait()
    mine = locals()
    print("ready", flush=True)
    sys.stdin.readline()
    done.set()
    thread.join()
    print(len(mine), next(suspended), sorted(set(found[0]) - {"mine"}), flush=True)


main()
