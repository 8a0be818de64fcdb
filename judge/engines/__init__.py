"""Who answers a prompt: engines take requests and give replies, and know nothing of battles.

`base` says what a request and a reply are; `ledger` keeps every answered call, so that none is paid
for twice. `endpoint` asks any server that speaks the OpenAI protocol, over `dispatch` (which call
goes where and when), `servers`, `limits`, `wire` (requests to JSON, JSON to replies) and
`transport`.
"""
