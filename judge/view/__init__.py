"""The local page to browse battles: what people chose, what judges said, and a label of one's own.

`index` holds the numbers in memory and the text in temporary files, `queries` filters and sorts,
`label_file` keeps one's own labels, `rendering` makes battle text safe to show, `app` answers the
page in `page/`, `serving` runs it all on a port.
"""
