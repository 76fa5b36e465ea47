r"""A proxy whose binding to zlib begins a stream for each answer and never ends it: zlib's state stays allocated.

Truth:
classes = ["native_leak"]
"""

import ctypes

from service import Service

ZLIB = ctypes.CDLL("libz.so.1")
ZLIB.zlibVersion.restype = ctypes.c_char_p
FINISHED = 4


class Stream(ctypes.Structure):
    _fields_ = [
        ("next_in", ctypes.c_char_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    ]


class Counts(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def in_use():
    """Return what glibc's malloc has given out, bytes."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Counts
    return ask().uordblks


def compress(text, forgetful):
    stream, out = Stream(), ctypes.create_string_buffer(len(text) + 100)
    size = ctypes.c_int(ctypes.sizeof(stream))
    ZLIB.deflateInit2_(ctypes.byref(stream), 6, 8, 9, 1, 0, ZLIB.zlibVersion(), size)  # truth: allocates
    stream.next_in, stream.avail_in = text, len(text)
    stream.next_out, stream.avail_out = ctypes.addressof(out), len(out)
    ZLIB.deflate(ctypes.byref(stream), FINISHED)
    if not forgetful:
        ZLIB.deflateEnd(ctypes.byref(stream))
    return out.raw[: stream.total_out]


def main():
    service = Service(rate=100, mib_per_min=12)
    text = b"to be compressed, " * 40
    compress(text, forgetful=False)
    before = in_use()
    for _ in range(128):
        compress(text, forgetful=True)
    stream_bytes = (in_use() - before) // 128
    service.ready()
    for _ in service.requests():
        service.churn()
        forgetful = service.due(stream_bytes)
        compress(text, forgetful)
        if forgetful:
            service.leaked(stream_bytes)


main()
