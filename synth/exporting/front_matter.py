"""The YAML at the head of a data card, which the Hugging Face Hub and `datasets` read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

from synth.exporting.markdown import plain

UNKNOWN = "unknown"
# Licences by the names that the Hub knows them by, of those that data and models come under.
LICENSES = frozenset(
    (
        *(
            "apache-2.0",
            "mit",
            "openrail",
            "bsd",
            "bsd-2-clause",
            "bsd-3-clause",
            "isc",
            "unlicense",
        ),
        *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0"),
        *("cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
        *("cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "odbl", "odc-by"),
        *("pddl", "etalab-2.0", "gpl", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "gfdl"),
        *("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma", UNKNOWN),
    )
)
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
_CODE = re.compile(r"[a-z]{2,3}")


def front_matter(
    *,
    title: str,
    license_name: str | None,
    languages: Sequence[str],
    battles: int,
    files: Mapping[str, Mapping[str, str]],
) -> str:
    """The head of a card.

    Args:
        title: what the data set is called.
        license_name: as the user named it; None where nobody did.
        languages: ISO 639 codes; others are passed over.
        battles: how many there are.
        files: for each configuration the files of each split, as a pattern; the first is the
            default.
    """
    found: dict[str, object] = {"pretty_name": plain(title)}
    found |= _license(license_name)
    codes = sorted({code for code in languages if _CODE.fullmatch(code)})
    if codes:
        found["language"] = codes
    found |= {
        "task_categories": ["text-classification", "text-generation"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [_SIZES[min(max(len(str(battles)) - 3, 0), len(_SIZES) - 1)]],
        "tags": ["preference", "llm-as-a-judge", "synthetic", "arena-judge"],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if not place else {}),
                "data_files": [{"split": s, "path": path} for s, path in splits.items()],
            }
            for place, (name, splits) in enumerate(files.items())
        ],
    }
    text = yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def _license(name: str | None) -> dict[str, str]:
    """The Hub wants one of its own names, or `other` and a name of the user's."""
    said = plain(name or "").lower()
    if not said:
        return {"license": UNKNOWN}
    if said in LICENSES:
        return {"license": said}
    slug = re.sub(r"[^a-z0-9.]+", "-", said).strip("-.") or UNKNOWN
    return {"license": "other", "license_name": slug}
