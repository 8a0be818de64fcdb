"""What came of an export: how many rows, and what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from judge.errors import InputError

_SHOWN = 3


@dataclass
class LeftOut:
    """What was left out for one reason.

    Attributes:
        noun: what they are, in the singular: battle, reply.
        why: the rest of the sentence.
        number: of them.
        ids: the battles of the first few.
    """

    noun: str
    why: str
    number: int = 0
    ids: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        """`3 battles without a label`."""
        return f"{self.number:,} {self.noun}{'' if self.number == 1 else 's'} {self.why}"


@dataclass
class Tally:
    """Rows that were written, and what was left out.

    Attributes:
        rows: that were written.
        battles: that they are of.
    """

    rows: int = 0
    battles: int = 0
    _left: dict[tuple[str, str], LeftOut] = field(default_factory=dict)

    def leave(self, noun: str, why: str, battle: str) -> None:
        """Counts something of a battle that is left out."""
        entry = self._left.setdefault((noun, why), LeftOut(noun, why))
        entry.number += 1
        if len(entry.ids) < _SHOWN and battle not in entry.ids:
            entry.ids.append(battle)

    @property
    def left_out(self) -> list[LeftOut]:
        """By reason, what there is most of first."""
        return sorted(self._left.values(), key=lambda entry: -entry.number)

    def settings(self) -> dict[str, object]:
        """For machines."""
        return {
            "rows": self.rows,
            "battles": self.battles,
            "left_out": [
                {"what": f"{entry.noun}s {entry.why}", "number": entry.number, "such_as": entry.ids}
                for entry in self.left_out
            ],
        }

    def check(self, source: str, mend: str | None = None) -> None:
        """Sees to it that there is something to write.

        Args:
            source: for messages.
            mend: what helps where nothing is left.

        Raises:
            InputError: everything was left out.
        """
        if self.rows:
            return
        why = f": {self.left_out[0].words}" if self._left else ""
        mend = mend or "see what arena-judge synth check says of it, or choose other options"
        raise InputError(f"has nothing to write in this form{why}", file=source, mend=mend)
