"""A program that asks, for tests that kill it: prints the number of each reply that it has."""

import sys

from judge.engines.base import Message, Parameters, Request
from judge.engines.endpoint import EndpointEngine
from judge.engines.ledger import Ledger
from judge.engines.settings import EndpointSettings

if __name__ == "__main__":
    url, path, first, last = sys.argv[1:]
    requests = [
        Request((Message("user", f"prompt {number}"),), Parameters("tiny"))
        for number in range(int(first), int(last))
    ]
    settings = EndpointSettings([url], concurrency=16, first_backoff=0.01)
    with Ledger(path) as ledger, EndpointEngine(settings, ledger=ledger) as engine:
        for number, reply in engine.answer(requests):
            print(requests[number].messages[0].content, reply.error, sep="\t", flush=True)
