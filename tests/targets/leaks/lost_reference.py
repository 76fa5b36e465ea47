r"""A service with an extension that takes one reference too many: objects that nobody refers to and that never die.

Truth:
classes = ["python_leak", "native_leak", "undetermined"]
type = 'Frame$|bytearray$'
"""

import ctypes

from service import Service

INCREF = ctypes.pythonapi.Py_IncRef
INCREF.argtypes = [ctypes.py_object]


class Frame:
    def __init__(self, number):
        self.number = number
        self.pixels = bytearray(7000)  # truth: allocates


def decode(service, number, buggy):
    frame = Frame(number)  # truth: allocates
    if buggy:
        INCREF(frame)
        service.leaked(7000)
    return len(frame.pixels)


def main():
    service = Service(rate=80)
    for number in service.measured(7300):
        decode(service, number, buggy=True)
    service.ready()
    for number in service.requests():
        service.churn()
        decode(service, number, buggy=service.due(7300))


main()
