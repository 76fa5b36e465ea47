r"""A codec whose binding allocates a state in C for each message and never frees it.

Truth:
classes = ["native_leak"]
"""

import ctypes

from service import Service

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.free.argtypes = [ctypes.c_void_p]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
STATE_BYTES = 4000


def encode(service, forgetful):
    state = LIBC.malloc(STATE_BYTES)  # truth: allocates
    LIBC.memset(state, 1, STATE_BYTES)
    if forgetful:
        service.leaked(STATE_BYTES)
    else:
        LIBC.free(state)


def main():
    service = Service(rate=150, mib_per_min=12)
    service.ready()
    for _ in service.requests():
        service.churn()
        encode(service, service.due(STATE_BYTES))


main()
