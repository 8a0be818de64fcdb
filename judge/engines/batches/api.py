"""OpenAI's Batch API: files go up, batches are made and looked after, files come down.

Over the openai package. Calls that meet a server that is busy, faulty or not there are made again
with patience; none is made again without a look whether it was done after all. What a server says
has the key taken out.
"""

from __future__ import annotations

import random
import time
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from judge.engines.complaints import read_complaint
from judge.engines.limits import backoff, retry_after
from judge.engines.settings import EndpointSettings
from judge.engines.transport import Secrets, Target, plain_name
from judge.engines.wire import Garbled, decoded, one_line
from judge.errors import ArenaJudgeError
from judge.files.atomic import explained, written_whole

if TYPE_CHECKING:
    import openai

MARK = "arena_judge_sha256"
"""The name of a batch's metadata that says which file it was made of."""

_ABSENT = {404, 405, 501}
_BUSY = {408, 409, 425, 429}  # and from 500 on
_LOST = {"failed", "expired", "cancelling", "cancelled"}
_PAGES = 20  # of a hundred batches or files that are looked through for one of ours
_BLOCK = 1 << 16

Result = TypeVar("Result")


class _Broken(Exception):
    """A download ended before it was whole."""


class NoBatches(ArenaJudgeError):
    """The server takes no batches, or knows nothing of this one."""


class Unanswered(ArenaJudgeError):
    """The server was busy, faulty or not there for longer than one waits."""


@dataclass(frozen=True)
class Batch:
    """A batch as its server describes it.

    Attributes:
        id: its name there.
        status: validating, in_progress, finalizing, completed, failed, expired, cancelling or
            cancelled.
        sha256: of the file that it was made of, if it is one of ours.
        output, errors: ids of the files of replies and of errors; empty where there are none.
        completed, failed, total: counts of requests.
        faults: why the file was not taken, as (code, message).
    """

    id: str
    status: str
    sha256: str = ""
    output: str = ""
    errors: str = ""
    completed: int = 0
    failed: int = 0
    total: int = 0
    faults: tuple[tuple[str, str], ...] = ()


class BatchServer:
    """A server that may take batches.

    Args:
        settings: how it is asked.
        target: where it is, and what it is shown.
        secrets: taken out of what it says.
        sleep: waits for so many seconds.
        clock: seconds, from any beginning.

    Raises:
        ArenaJudgeError: the openai package is not installed.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        target: Target,
        secrets: Secrets,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ArenaJudgeError(
                "the openai package is not installed; pip install 'arena-judge[prompted]'"
            ) from error
        self.name = plain_name(target.url)
        self._openai = openai
        self._settings = settings
        self._variable = target.variable
        self._secrets = secrets
        self._sleep = sleep
        self._clock = clock
        self._draws = random.Random(settings.seed)
        self._client: openai.OpenAI = openai.OpenAI(
            api_key=target.secret or "none",
            base_url=self.name,
            default_headers=_authorization(target.url),
            timeout=settings.timeout,
            max_retries=0,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def takes_batches(self) -> bool:
        """Whether it has the API at all."""
        ask = self._client.batches.with_raw_response.list
        try:
            page = decoded(self._call(lambda: ask(limit=1)).http_response.content)
        except (NoBatches, Garbled):  # a web page is no list of batches either
            return False
        return isinstance(page, dict) and isinstance(page.get("data"), list)

    def upload(self, path: Path, name: str, again: bool = False) -> str:
        """Uploads a file, unless one of this name and size is there, and gives its id.

        Args:
            path: the file.
            name: what it is called there; one that no other file has.
            again: whether it may have been uploaded before.
        """

        def find() -> str | None:
            return self._find_upload(name, path.stat().st_size)

        def send() -> str:
            with path.open("rb") as file:
                made = self._client.files.create(
                    file=(name, file, "application/jsonl"), purpose="batch"
                )
            return self._id(made)

        return self._once(send, find, again)

    def create(self, upload: str, sha256: str, known: Collection[str] = ()) -> Batch:
        """Makes a batch of a file that was uploaded, unless there is one of the same content that
        is under way or complete: whoever was killed, or asked the same from elsewhere, pays once.

        Args:
            upload: the file's id.
            sha256: of the file.
            known: batches that will not do, for what they gave has been seen.
        """

        def find() -> Batch | None:
            for batch in self._batches():
                if batch.sha256 == sha256 and batch.status not in _LOST and batch.id not in known:
                    return batch
            return None

        def make() -> Batch:
            made = self._client.batches.create(
                input_file_id=upload,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={MARK: sha256, "made_by": "arena-judge"},
            )
            return self._batch(made)

        return self._once(make, find, True)

    def retrieve(self, batch: str) -> Batch:
        """How a batch is.

        Raises:
            NoBatches: the server does not know it.
        """
        return self._call(lambda: self._batch(self._client.batches.retrieve(batch)))

    def download(self, file: str, target: Path) -> None:
        """Downloads a file, whole or not at all."""

        def get() -> None:
            with (
                self._client.files.with_streaming_response.content(file) as response,
                written_whole(target) as output,
            ):
                blocks = response.iter_bytes(_BLOCK)
                while block := self._next(blocks):
                    with explained(target):
                        output.write(block)

        self._call(get)

    def _batches(self) -> Iterator[Batch]:
        """The latest batches, the newest first."""
        return map(self._batch, self._listed(self._client.batches.list))

    def _find_upload(self, name: str, size: int) -> str | None:
        for each in self._listed(self._client.files.list, purpose="batch", order="desc"):
            if (getattr(each, "filename", ""), getattr(each, "bytes", 0)) == (name, size):
                return self._id(each)
        return None

    def _listed(self, ask: Callable[..., Any], **how: str) -> Iterator[Any]:
        for _ in range(_PAGES):
            page = self._call(partial(_page, ask, limit=100, **how))
            found = getattr(page, "data", None) or []
            yield from found
            if not found or not getattr(page, "has_more", False):
                return
            how["after"] = self._id(found[-1])

    def _next(self, blocks: Iterator[bytes]) -> bytes:
        try:
            return next(blocks, b"")
        except Exception as error:  # the openai package passes on what its transport raises
            reason = one_line(str(error)) or type(error).__name__
            raise _Broken(self._secrets.scrubbed(f"{self.name} broke off ({reason})")) from None

    def _id(self, made: Any) -> str:
        """The id of what a server made."""
        name = getattr(made, "id", None)
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 500:
            raise ArenaJudgeError(
                f"{self.name} answered with something else than batches; see that its base URL is "
                "right"
            )
        return name

    def _batch(self, said: Any) -> Batch:
        counts = getattr(said, "request_counts", None)
        listed = getattr(getattr(said, "errors", None), "data", None) or []
        metadata = getattr(said, "metadata", None)
        return Batch(
            self._id(said),
            self._words(getattr(said, "status", "")),
            str(metadata.get(MARK, "")) if isinstance(metadata, dict) else "",
            _text(getattr(said, "output_file_id", None)),
            _text(getattr(said, "error_file_id", None)),
            _count(getattr(counts, "completed", None)),
            _count(getattr(counts, "failed", None)),
            _count(getattr(counts, "total", None)),
            tuple(
                (self._words(getattr(e, "code", "")), self._words(getattr(e, "message", "")))
                for e in listed[:20]
            ),
        )

    def _words(self, text: object) -> str:
        return one_line(self._secrets.scrubbed(_text(text)))

    # Calls that fail.

    def _once(
        self, make: Callable[[], Result], find: Callable[[], Result | None], again: bool
    ) -> Result:
        """Makes something that must not be there twice: where it may have been made, it is looked
        for first."""
        tried = again

        def attempt() -> Result:
            nonlocal tried
            if tried and (found := find()) is not None:
                return found
            tried = True
            return make()

        return self._call(attempt)

    def _call(self, call: Callable[[], Result]) -> Result:
        """Calls, again and again while the server is busy, faulty or not there."""
        openai = self._openai
        begun, attempt = self._clock(), 0
        while True:
            asked = None
            try:
                return call()
            except openai.APIStatusError as error:
                words = self._refused(error)
                asked = retry_after(error.response.headers.get("retry-after"))
            except openai.APITimeoutError:
                words = f"{self.name} did not answer within {self._settings.timeout:g} seconds"
            except openai.APIConnectionError as error:
                reason = one_line(str(error.__cause__ or error)) or type(error).__name__
                words = self._secrets.scrubbed(f"{self.name} cannot be reached ({reason})")
            except _Broken as error:
                words = str(error)
            except (openai.OpenAIError, ValueError) as error:
                words = f"{self.name} answered with garbage ({self._words(str(error))})"
            settings = self._settings
            wait = backoff(attempt, self._draws, settings.first_backoff, settings.longest_backoff)
            wait = max(wait, asked or 0.0)
            attempt += 1
            if self._clock() - begun + wait > settings.patience:
                raise Unanswered(
                    f"{words}, for {settings.patience:g} seconds; give the same command again later"
                )
            self._sleep(wait)

    def _refused(self, error: openai.APIStatusError) -> str:
        """What the server says; raises where it would say it again."""
        status = error.response.status_code
        try:
            data = error.response.content
        except Exception:  # of a download that was refused, nobody has read it
            data = error.response.read()
        complaint = read_complaint(data, [])
        said = self._secrets.scrubbed(complaint.text)
        words = f"{self.name} answered {status}" + (said and f": {said}")
        if status == 402 or complaint.no_credit:
            raise ArenaJudgeError(f"{words}; see to the account's credit")
        if status in _ABSENT:
            raise NoBatches(words)
        if status in _BUSY or status >= 500:
            return words
        if status in (401, 403):
            raise ArenaJudgeError(f"{words}; set {self._variable} to a key that it takes")
        raise ArenaJudgeError(words)


def _page(ask: Callable[..., Result], **how: Any) -> Result:
    """A page of a list, from an openai package that trips over what is none."""
    try:
        return ask(**how)
    except AttributeError as error:
        raise ValueError("no list") from error


def _authorization(url: str) -> dict[str, str]:
    """The header for a user and password in an address; it goes before the key's."""
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(said.encode()).decode()}"}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
