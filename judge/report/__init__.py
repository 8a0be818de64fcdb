"""One page that shows what a command found: `--report report.html`.

    results -> sections (one module a command) -> charts -> page

A page is one file without scripts from elsewhere, fonts or pictures: it opens anywhere, offline, in
light and dark, on a phone and on paper. Every chart has the table of its numbers behind it.
"""

from __future__ import annotations
