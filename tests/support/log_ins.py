"""Applications with the log-ins of tutorials and libraries, and an identity provider for Authlib."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import typing as t
import uuid
from urllib.parse import parse_qs, urlsplit

import flask_login
from authlib.integrations.flask_client import OAuth
from flask import Blueprint, Flask, Response, redirect, request
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import ECKey
from werkzeug.serving import make_server

from flask_sessionstore import SessionManager, SessionStore, session

USERS = {"ann": 7, "mallory": 8}


class Site(t.NamedTuple):
    """One way to log in: the views that do it, how a browser goes through them, and who is signed in."""

    name: str
    views: Blueprint
    log_in: t.Callable[[FlaskClient, str], object]
    #: The user of the session, read from the same place as the application does; None if nobody is logged in.
    user: t.Callable[[], object]

    def app(self, store: SessionStore, **config: object) -> Flask:
        """An application with this log-in and the default settings."""
        app = Flask(self.name)
        app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True, **config)
        SessionManager(app)
        app.register_blueprint(self.views)
        app.add_url_rule("/me", "me", lambda: {"user": self.user(), "cart": session.get("cart")})
        app.add_url_rule("/buy/<article>", "buy", buy, methods=["POST"])
        return app


def buy(article: str) -> str:
    session.setdefault("cart", []).append(article)
    return ""


def by_form(client: FlaskClient, name: str) -> None:
    """Fill in the log-in form."""
    assert client.post("/login", data={"username": name, "password": "right"}).status_code in (200, 302, 303)


# -- Flask's tutorial and quickstart ---------------------------------------------------------------------------------

tutorial = Blueprint("tutorial", __name__)
tutorial_without_clear = Blueprint("tutorial_without_clear", __name__)
quickstart = Blueprint("quickstart", __name__)
flaskr = Blueprint("flaskr", __name__)


@tutorial.post("/login")
def _() -> t.Any:
    user = {"id": USERS[request.form["username"]]}
    session.clear()
    session["user_id"] = user["id"]
    return redirect("/")


@tutorial_without_clear.post("/login")
def _() -> t.Any:
    session["user_id"] = USERS[request.form["username"]]
    return redirect("/")


@quickstart.post("/login")
def _() -> t.Any:
    session["username"] = request.form["username"]
    return redirect("/")


@flaskr.route("/login", methods=["GET", "POST"])
def _() -> t.Any:
    session["logged_in"] = True
    return redirect("/")


# -- a guest's number that becomes a user's --------------------------------------------------------------------------

guests = Blueprint("guests", __name__)


@guests.before_app_request
def _() -> None:
    if "uid" not in session:
        session["uid"] = uuid.uuid4().hex


@guests.post("/login")
def _() -> t.Any:
    session["uid"] = request.form["username"]
    return redirect("/")


def known_guest() -> str | None:
    name = session["uid"]
    return name if name in USERS else None


# -- Flask-Login -----------------------------------------------------------------------------------------------------

with_flask_login = Blueprint("with_flask_login", __name__)


class User(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


@with_flask_login.record_once
def _(state: t.Any) -> None:
    flask_login.LoginManager(state.app).user_loader(User)


@with_flask_login.post("/login")
def _() -> t.Any:
    flask_login.login_user(User(request.form["username"]))
    return redirect("/")


def current_user() -> str | None:
    user = flask_login.current_user
    return user.id if user.is_authenticated else None


# -- MSAL ------------------------------------------------------------------------------------------------------------

msal = Blueprint("msal", __name__)


def entra_claims(name: str) -> dict[str, t.Any]:
    """An ID token's claims as Microsoft's identity platform issues them."""
    return {
        "aud": "11111111-2222-3333-4444-555555555555",
        "iss": "https://login.microsoftonline.com/99999999-8888-7777-6666-555555555555/v2.0",
        "iat": 1_767_225_600,
        "exp": 1_767_229_500,
        "name": name.title(),
        "oid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        "preferred_username": f"{name}@shop.example",
        "sub": f"subject-of-{name}",
        "tid": "99999999-8888-7777-6666-555555555555",
        "uti": secrets.token_urlsafe(16),
        "ver": "2.0",
    }


@msal.get("/redirect")
def _() -> t.Any:
    session.pop("_auth_flow", None)
    session["_token_cache"] = '{"AccessToken": {}}'
    session["_logged_in_user"] = entra_claims(request.args["code"])
    return redirect("/")


def by_msal(client: FlaskClient, name: str) -> None:
    """Come back from Microsoft."""
    assert client.get("/redirect", query_string={"code": name, "state": "kept"}).status_code in (302, 303)


# -- Authlib, as its documentation and Auth0's have it ---------------------------------------------------------------


class Provider:
    """An OpenID provider that takes everybody at their word. Its token endpoint is on a socket: Authlib asks there."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
        self._grants: dict[str, tuple[str, str]] = {}  # user and nonce, by code
        self._app = Flask("provider")
        self._app.add_url_rule("/token", view_func=self._token, methods=["POST"])
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> t.Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def authorize(self, location: str, name: str) -> dict[str, str]:
        """The parameters with which the provider sends a user back who was sent to ``location``."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(location).query).items()}
        code = secrets.token_urlsafe(8)
        self._grants[code] = (name, query["nonce"])
        return {"code": code, "state": query["state"]}

    def _token(self) -> dict[str, t.Any]:
        name, nonce = self._grants.pop(request.form["code"])
        claims = {
            "iss": self.issuer,
            "sub": f"auth0|{USERS[name]:024}",
            "aud": "shop",
            "iat": int(time.time()),
            "exp": int(time.time()) + 3600,
            "nonce": nonce,
            "sid": secrets.token_urlsafe(24),
            "nickname": name,
            "name": f"{name}@shop.example",
            "picture": f"https://cdn.shop.example/avatars/{name}.png",
            "updated_at": "2026-01-01T00:00:00.000Z",
            "email": f"{name}@shop.example",
            "email_verified": True,
        }
        id_token = jwt.encode({"alg": "ES256", "kid": "one"}, claims, self.key)
        return {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "id_token": id_token}

    def client_of(self, app: Flask) -> t.Any:
        """An application's registration with this provider."""
        return OAuth(app).register(
            "provider",
            client_id="shop",
            client_secret="secret of the shop",
            access_token_url=f"{self.issuer}/token",
            authorize_url=f"{self.issuer}/authorize",
            issuer=self.issuer,
            jwks={"keys": [self.key.as_dict(private=False)]},
            id_token_signing_alg_values_supported=["ES256"],
            client_kwargs={"scope": "openid profile email"},
        )


def authlib(provider: Provider) -> Site:
    """The log-in in Authlib's documentation, at this provider."""
    views = Blueprint("authlib", __name__)
    clients: dict[str, t.Any] = {}

    @views.record_once
    def _(state: t.Any) -> None:
        clients["provider"] = provider.client_of(state.app)

    @views.get("/login")
    def login() -> Response:
        return t.cast("Response", clients["provider"].authorize_redirect("http://localhost/callback"))

    @views.get("/callback")
    def callback() -> t.Any:
        token = clients["provider"].authorize_access_token()
        session["user"] = token["userinfo"]
        return redirect("/")

    def by_provider(client: FlaskClient, name: str) -> None:
        location = client.get("/login").location
        assert location is not None
        answer = client.get("/callback", query_string=provider.authorize(location, name))
        assert answer.status_code in (302, 303)

    return Site("authlib", views, by_provider, lambda: session.get("user", {}).get("nickname"))


@contextlib.contextmanager
def sites() -> t.Iterator[dict[str, Site]]:
    """All the ways to log in, by name."""
    with Provider() as provider:
        found = [
            Site("flask_login", with_flask_login, by_form, current_user),
            Site("tutorial", tutorial, by_form, lambda: session.get("user_id")),
            Site("tutorial_without_clear", tutorial_without_clear, by_form, lambda: session.get("user_id")),
            Site("quickstart", quickstart, by_form, lambda: session.get("username")),
            authlib(provider),
            Site("msal", msal, by_msal, lambda: session.get("_logged_in_user", {}).get("preferred_username")),
            Site("flaskr", flaskr, by_form, lambda: session.get("logged_in")),
            Site("guests", guests, by_form, known_guest),
        ]
        yield {site.name: site for site in found}
