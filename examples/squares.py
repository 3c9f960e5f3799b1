"""Stores numbers as tasks and prints their squares as they come.

Whoever serves the workspace squares them: squares.R, or anybody who fetches `task` and stores
`N N*N` to `result`. Usage: squares.py [HOST [PORT]]
"""

import sys

from nws.client import NetWorkSpace

HOST = sys.argv[1] if len(sys.argv) > 1 else 'localhost'
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 8765
COUNT = 10

ws = NetWorkSpace('squares', HOST, PORT)
for n in range(COUNT):
    ws.store('task', str(n))
for _ in range(COUNT):
    n, square = ws.fetch('result').split()
    print('%s squared is %s' % (n, square))
# One is enough: each server puts it back for the next.
ws.store('task', 'stop')
