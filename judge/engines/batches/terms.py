"""How requests are put for a batch, and what they may cost there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import urlsplit

from judge.engines.base import Estimate, Request, Usage
from judge.engines.ledger import Ledger
from judge.engines.pricing import Counter, Price, load_prices, prompt_tokens
from judge.engines.settings import EndpointSettings
from judge.engines.wire import Dialect
from judge.errors import ArenaJudgeError

_TOGETHER = 256  # requests looked up in the ledger at once
# Models that think first take no temperature and give no log-probabilities.
_THINKS = re.compile(r"(^|/)(o\d|gpt-5(?!\.))")


class Terms:
    """What is sent, and for how much.

    Args:
        settings: the server, the prices, and the limit of what is spent.
        vllm: whether vLLM reads the files.
        count_tokens: counts the tokens of a text; a quarter of its bytes otherwise.

    Raises:
        InputError: the file of prices cannot be used.
    """

    def __init__(
        self, settings: EndpointSettings, vllm: bool = False, count_tokens: Counter | None = None
    ) -> None:
        # What one's own vLLM answers is not bought.
        self.most = None if vllm else settings.max_cost
        self._vllm = vllm
        self._hosted = urlsplit(settings.base_urls[0]).hostname == "api.openai.com"
        self._count_tokens = count_tokens
        self._prices = load_prices(settings.prices)
        self._found: dict[str, Price | None] = {}

    def price(self, model: str) -> Price | None:
        """What a model's tokens cost in a batch; None where that is not known."""
        if model not in self._found:
            price = self._prices.find(model)
            self._found[model] = None if price is None else price.batched
        return self._found[model]

    def promised(self, request: Request) -> float:
        """Dollars that a request may cost, at most; 0 where nobody knows.

        Raises:
            ArenaJudgeError: nobody knows, and there is a limit.
        """
        model = request.parameters.model
        price = self.price(model)
        if price is not None:
            return price.cost(self._usage(request))
        if self.most is not None:
            raise ArenaJudgeError(
                f"the price of {model} is not known, so its cost cannot be limited; name a file of "
                "prices that has it"
            )
        return 0.0

    def estimate(self, requests: Iterable[Request], ledger: Ledger) -> Estimate:
        """What asking would come to, at most; what the ledger has, and what is asked twice, is
        free."""
        total = known = prompt = completion = 0
        cost: float | None = 0.0
        seen: set[bytes] = set()
        for batch in in_batches(requests):
            keys = [ledger.key(request) for _, request in batch]
            found = ledger.get_many(keys)
            for (_, request), key in zip(batch, keys, strict=True):
                total += 1
                if key in found or key in seen:
                    known += 1
                    continue
                seen.add(key)
                usage = self._usage(request)
                prompt += usage.prompt
                completion += usage.completion
                price = self.price(request.parameters.model)
                cost = None if cost is None or price is None else cost + price.cost(usage)
        return Estimate(total, known, prompt, completion, cost)

    def dialect(self, model: str, learned: dict[str, Dialect]) -> Dialect:
        """What is sent for a model: what it should take, less what it was seen to refuse.

        Args:
            model: its name.
            learned: dialects by model; a new one is put there.
        """
        dialect = learned.get(model)
        if dialect is None:
            dialect = learned[model] = Dialect()
            thinks = _THINKS.search(model) is not None
            if not self._vllm and (self._hosted or thinks):
                dialect.limit_name = "max_completion_tokens"
            if not self._vllm and thinks:
                dialect.dropped |= {"temperature", "logprobs"}
        # OpenAI refuses fields that it does not know, and by a batch one learns that a day later.
        if self._vllm:
            dialect.dropped.discard("structured_outputs")
        else:
            dialect.dropped.add("structured_outputs")
        return dialect

    def _usage(self, request: Request) -> Usage:
        return Usage(prompt_tokens(request, self._count_tokens), 0, request.parameters.max_tokens)


def in_batches(requests: Iterable[Request]) -> Iterator[list[tuple[int, Request]]]:
    """Requests with their numbers, as many as are looked up in the ledger together."""
    source = enumerate(requests)
    while batch := list(islice(source, _TOGETHER)):
        yield batch
