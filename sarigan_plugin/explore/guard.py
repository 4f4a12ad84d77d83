"""What stands between `sarigan explore` and the browser: who may ask, how much may be sent, what a page may load."""

import urllib.parse

HOSTS       = ('127.0.0.1', 'localhost')
MAX_UPLOAD  = 16 * 2**20            # Bytes of a file.
MAX_BODY    = MAX_UPLOAD + 2**16    # With the form around it.

# Everything comes from this server, nothing may be put into a frame of another page.
# Vue compiles its templates in the browser.
HEADERS = {
    b'content-security-policy': b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    b'x-content-type-options': b'nosniff',
    b'referrer-policy': b'no-referrer',
    b'cross-origin-resource-policy': b'same-origin',
}

class _TooLarge(Exception):
    pass

class Guard:
    """ASGI middleware.

    Refuses requests to another host name (DNS rebinding), requests and web sockets from pages of another origin, and
    bodies of more than MAX_BODY.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope['type'] not in ['http', 'websocket']:
            await self.app(scope, receive, send)
            return
        headers = dict(scope['headers'])
        status, sentence = _objection(headers)
        if status is not None:
            await _refuse(scope, receive, send, status, sentence)
        elif scope['type'] == 'websocket':
            await self.app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope, receive, send):
        received, started = 0, False

        async def counted_receive():
            nonlocal received
            message = await receive()
            received += len(message.get('body', b''))
            if received > MAX_BODY: # It had not said so beforehand.
                raise _TooLarge
            return message

        async def send_with_headers(message):
            nonlocal started
            if received > MAX_BODY: # What is made of the exception inside is not the answer.
                return
            if message['type'] == 'http.response.start':
                started = True
                message = dict(message, headers=[*message['headers'], *HEADERS.items()])
            await send(message)

        try:
            await self.app(scope, counted_receive, send_with_headers)
        except Exception: # On its way here _TooLarge may become another one.
            if received <= MAX_BODY:
                raise
            if not started:
                await _refuse(scope, receive, send, *TOO_LARGE)

TOO_LARGE = (413, f'Files of more than {MAX_UPLOAD >> 20} MB are not taken.')

def _objection(headers):
    """(status, sentence) of why a request is refused, or (None, None)."""
    host = headers.get(b'host', b'').decode('latin-1')
    try:
        if urllib.parse.urlsplit(f'//{host}').hostname not in HOSTS:
            return 403, f'This server is {" or ".join(HOSTS)} only.'
    except ValueError: # Brackets that don't close.
        return 403, f'This server is {" or ".join(HOSTS)} only.'
    origin = headers.get(b'origin')
    if origin is not None and origin.decode('latin-1') != f'http://{host}':
        return 403, 'Pages of other servers have no business here.'
    length = headers.get(b'content-length', b'0')
    if not length.isdigit() or int(length[:20]) > MAX_BODY:
        return TOO_LARGE
    return None, None

async def _refuse(scope, receive, send, status, sentence):
    if scope['type'] == 'websocket':
        await receive()
        await send(dict(type='websocket.close', code=1008, reason=sentence))
        return
    headers = [(b'content-type', b'text/plain; charset=utf-8'), (b'connection', b'close')]
    await send(dict(type='http.response.start', status=status, headers=headers))
    await send(dict(type='http.response.body', body=f'{sentence}\n'.encode()))

#----------------------------------------------------------------------------
