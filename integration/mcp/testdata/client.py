"""Connects with the SDK for Python, and calls tools for alice: python client.py <server> [<client ID or URL of a document>]

It prints what client.mjs prints. Without a client ID, it registers.
"""

import asyncio
import base64
import html
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from mcp import ClientSession
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

server, client_id = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "")
CALLBACK = "http://127.0.0.1:4711/callback"
document = client_id if client_id.startswith("https:") else None


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def allow(url):
    """Opens an authorization request as alice, presses Allow, and returns the parameters of the response."""
    browser = urllib.request.build_opener(NoRedirect, urllib.request.HTTPCookieProcessor())
    headers = {"Authorization": "Basic " + base64.b64encode(b"alice:wonderland").decode()}

    def open_page(target, form=None):
        try:
            return browser.open(urllib.request.Request(target, data=form, headers=headers)).read().decode(), None
        except urllib.error.HTTPError as error:
            return None, error.headers["Location"]

    page, location = open_page(url)
    if page:
        action = urllib.parse.urljoin(url, html.unescape(re.search(r'action="([^"]+)"', page)[1]))
        request = html.unescape(re.search(r'name="request" value="([^"]+)"', page)[1])
        _, location = open_page(action, urllib.parse.urlencode({"request": request, "decision": "allow"}).encode())
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query))


class Storage:
    tokens = None
    client = None
    if client_id and not document:
        client = OAuthClientInformationFull(client_id=client_id, redirect_uris=[CALLBACK], token_endpoint_auth_method="none")

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def main():
    storage, answer = Storage(), {}

    async def redirect(url):
        answer.update(await asyncio.to_thread(allow, url))

    async def callback():
        return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

    provider = OAuthClientProvider(
        server,
        OAuthClientMetadata(client_name="Python SDK", redirect_uris=[CALLBACK], token_endpoint_auth_method="none"),
        storage,
        redirect,
        callback,
        client_metadata_url=document,
    )
    async with (
        create_mcp_http_client(auth=provider) as http,
        streamable_http_client(server, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()

        async def call(name):
            return (await session.call_tool(name, {"id": "7"})).content[0].text

        read, first = await call("get_order"), storage.tokens
        provider.context.token_expiry_time = time.time() - 1
        tools = len((await session.list_tools()).tools)
        refreshed = storage.tokens.access_token != first.access_token
        deleted = await call("delete_order")
        print(json.dumps({
            "read": read, "first": first.scope, "tools": tools, "refreshed": refreshed, "deleted": deleted,
            "then": " ".join(sorted(storage.tokens.scope.split())), "client": provider.context.client_info.client_id,
        }))


asyncio.run(main())
