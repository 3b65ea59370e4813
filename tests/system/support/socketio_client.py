"""A Socket.IO client of another make (python-socketio), driven by a test: one JSON line for each thing that happens.

usage: socketio_client.py URL TOKEN TRANSPORTS   (TRANSPORTS: polling,websocket)
Commands on stdin: "emit NAME JSON" (answered by a line "ack"), "close".
"""
import json
import sys
import threading

import socketio

url, token, transports = sys.argv[1:4]
client = socketio.Client(reconnection_delay=0.1, reconnection_delay_max=0.5, randomization_factor=0)


telling = threading.Lock()  # handlers run in threads of their own


def tell(what, *rest):
    with telling:
        print(json.dumps([what, *rest]), flush=True)


client.on('connect', lambda: tell('connect', client.transport()))
client.on('connect_error', lambda data: tell('connect_error', data))
client.on('disconnect', lambda: tell('disconnect'))
for name in ('connected', 'status-change', 'instance', 'subscribed', 'unsubscribed', 'pong', 'error', 'server-shutdown'):
    client.on(name, lambda *arguments, name=name: tell('event', name, *arguments))

try:
    client.connect(url, auth={'token': token}, transports=transports.split(','))
except socketio.exceptions.ConnectionError as error:
    tell('refused', str(error))
    sys.exit(0)

for line in sys.stdin:
    command, _, rest = line.strip().partition(' ')
    if command == 'close':
        break
    name, _, argument = rest.partition(' ')
    client.emit(name, json.loads(argument) if argument else None, callback=lambda *answer: tell('ack', *answer))
client.disconnect()
