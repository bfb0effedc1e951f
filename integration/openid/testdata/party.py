# A relying party with Authlib. It signs a person in at /login, and its callback answers with what the library has found out.
import os

from authlib.integrations.flask_client import OAuth
from flask import Flask, jsonify

app = Flask(__name__)
app.secret_key = os.environ["CLIENT_SECRET"]
oauth = OAuth(app)
site = oauth.register(
    "site",
    client_id="authlib",
    client_secret=os.environ["CLIENT_SECRET"],
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_kwargs={"scope": "openid profile email groups", "code_challenge_method": "S256"},
)


@app.get("/login")
def login():
    return site.authorize_redirect(os.environ["ORIGIN"] + "/callback")


@app.get("/callback")
def callback():
    tokens = site.authorize_access_token()  # with the checks of the ID token
    refreshed = site.fetch_access_token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    return jsonify(
        claims=tokens["userinfo"],
        userinfo=site.userinfo(token=refreshed),
        refreshed=site.parse_id_token(refreshed, nonce=None),
    )


host, port = os.environ["ORIGIN"].removeprefix("http://").split(":")
app.run(host, int(port))
