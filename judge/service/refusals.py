"""How a request is refused: a status, and JSON that says what, where and the mend."""

from __future__ import annotations

import json

from judge.errors import ArenaJudgeError


class Refused(ArenaJudgeError):
    """A request that gets no judgments.

    Args:
        status: of HTTP.
        code: the kind of refusal, for machines.
        message: what is wrong, for people.
        battle: the number of the battle in the request, from 0.
        field: the field of the battle, or of the request.
        mend: what the caller can do about it.
        retry_after: seconds after which it is worth asking again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        battle: int | None = None,
        field: str | None = None,
        mend: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.battle, self.field, self.mend = battle, field, mend
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The reply's body: `{"error": {...}}`, every field there, null where it says nothing."""
        said = {
            "code": self.code,
            "message": self.message,
            "battle": self.battle,
            "field": self.field,
            "mend": self.mend,
        }
        return json.dumps({"error": said}).encode()

    def headers(self) -> dict[str, str]:
        """What else the reply says."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status == 503:
            headers["Connection"] = "close"
        return headers


def stopping() -> Refused:
    """What is said once the server has been told to stop."""
    return Refused(
        503, "stopping", "the server is stopping", mend="ask another, or again", retry_after=5
    )
