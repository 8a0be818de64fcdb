"""What `judge.engines.batch` is made of.

`terms` says what is sent and for how much, `files` writes requests, `sending` brings them to a
server over `api`, `replies` reads what comes back and `collecting` puts it into the ledger. `state`
is what is known of it all between one process and the next; `progress` is that, for a table.
"""
