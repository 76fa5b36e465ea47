r"""A mailer with a queue that fills in each burst and is empty again before the next.

Truth:
kind = "negative"
classes = ["none", "load_proportional"]
"""

import queue
import threading
import time

from service import Service


def work(mails):
    while True:
        mails.get()
        time.sleep(0.004)


def main():
    service = Service(rate=100)
    mails = queue.Queue()
    threading.Thread(target=work, args=(mails,), daemon=True).start()
    service.ready()
    began = time.monotonic()
    for number in service.requests():
        service.churn()
        if (time.monotonic() - began) % 12 < 3:
            for _ in range(5):
                mails.put({"to": f"user-{number}", "body": bytearray(4000)})


main()
