"""An account service in good health: a table of accounts, JSON in and out, now and then a cycle."""

import json

from paced import serve

ACCOUNTS = {number: {"id": number, "tags": [number % 5]} for number in range(20_000)}


class Transfer:
    def __init__(self, amount):
        self.amount = amount


async def book(number):
    transfer = Transfer(json.loads('{"amount": [1, 2, {"cents": 5}]}'))
    account = ACCOUNTS[number % 20_000]
    account["tags"] = [number % 7]
    if number % 50 == 0:
        transfer.audit = [transfer]
    return json.dumps(account)


serve(book, 300)
