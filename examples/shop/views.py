"""The pages. Every change is a POST answered by a redirect, so that reloading a page does not repeat the change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from flask_sessionstore import session

from .catalogue import PRODUCTS, Product
from .extensions import sessions
from .users import password_is_right

bp = Blueprint("shop", __name__)

MOST_OF_ONE = 20


class Line(NamedTuple):
    """One line of the cart, as the templates show it."""

    product: Product
    quantity: int
    gift: bool
    price: Decimal

    def as_text(self) -> str:
        return f"{self.quantity} × {self.product.name}{' (gift)' if self.gift else ''}"


def cart_lines() -> list[Line]:
    # session["cart"] is {sku: {"quantity": int, "gift": bool}}: the chosen articles, never their prices.
    cart = session.get("cart", {})
    return [
        Line(product, entry["quantity"], entry["gift"], product.price * entry["quantity"])
        for sku, entry in cart.items()
        if (product := PRODUCTS.get(sku))  # no longer sold: no longer in the cart
    ]


def go_to(page: str) -> Response:
    return redirect(url_for(f"shop.{page}"), 303)


def for_customers(view: Callable[[], str | Response]) -> Callable[[], str | Response]:
    """Ask visitors to log in who are not logged in."""

    @functools.wraps(view)
    def guarded() -> str | Response:
        return view() if "user_id" in session else go_to("login")

    return guarded


@bp.before_app_request
def refuse_cross_site_posts() -> None:
    # Against forged requests: every change is a POST, and SameSite=Lax keeps the session cookie out of other
    # sites' POSTs. A log-in needs no cookie, so the header that browsers send themselves is checked too.
    # If more is at stake than a mug, add a token for old browsers (such as Flask-WTF's CSRFProtect).
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
        abort(403)


@bp.app_template_filter()
def money(amount: Decimal) -> str:
    return f"€ {amount:.2f}"


@bp.app_template_filter()
def ago(moment: datetime) -> str:
    minutes = (datetime.now(UTC) - moment) // timedelta(minutes=1)
    for unit, length in (("day", 24 * 60), ("hour", 60), ("minute", 1)):
        if minutes >= length:
            count = minutes // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


@bp.app_context_processor
def header() -> dict[str, Any]:
    return {"user": session.get("user_id"), "in_cart": sum(line.quantity for line in cart_lines())}


@bp.get("/")
def products() -> str:
    return render_template("products.html", products=PRODUCTS.values())


@bp.get("/two-at-once")
def lanes() -> str:
    return render_template("lanes.html")  # what its buttons do is in lanes.py


@bp.get("/cart")
def cart() -> str:
    lines = cart_lines()
    total = sum((line.price for line in lines), Decimal())
    return render_template("cart.html", lines=lines, total=total, most=MOST_OF_ONE)


@bp.post("/cart/<sku>/add")
def add(sku: str) -> Response:
    product = PRODUCTS.get(sku) or abort(404)
    # A dict in a dict, changed in place: the session notices it, without `session.modified = True`.
    entry = session.setdefault("cart", {}).setdefault(sku, {"quantity": 0, "gift": False})
    entry["quantity"] = min(entry["quantity"] + 1, MOST_OF_ONE)
    flash(f"{product.name} is in your cart.")
    return go_to("products")


@bp.post("/cart/<sku>/change")
def change(sku: str) -> Response:
    quantity = request.form.get("quantity", type=int)
    if quantity is None or not 1 <= quantity <= MOST_OF_ONE:
        flash(f"Choose a quantity between 1 and {MOST_OF_ONE}.", "problem")
    elif entry := session.get("cart", {}).get(sku):
        entry["quantity"] = quantity
        entry["gift"] = "gift" in request.form
        flash("Your cart is up to date.")
    return go_to("cart")


@bp.post("/cart/<sku>/remove")
def remove(sku: str) -> Response:
    if session.get("cart", {}).pop(sku, None):
        flash("Removed from your cart.")
    return go_to("cart")


@bp.post("/checkout")
def checkout() -> Response:
    if "user_id" not in session:
        flash("Log in to place your order. Your cart will be kept.")
        return go_to("login")
    if lines := cart_lines():
        # A datetime and a Decimal come back with the same type. (A real shop would keep orders in a database.)
        order = {
            "placed_at": datetime.now(UTC),
            "lines": [line.as_text() for line in lines],
            "total": sum((line.price for line in lines), Decimal()),
        }
        session.setdefault("orders", []).append(order)
        del session["cart"]
        flash("Thank you! Your order is on its way.")
    return go_to("orders")


@bp.get("/orders")
@for_customers
def orders() -> str | Response:
    return render_template("orders.html", orders=session.get("orders", []))


@bp.get("/login")
def login() -> str:
    return render_template("login.html")


@bp.post("/login")
def log_in() -> Response:
    name = request.form.get("name", "")
    if not password_is_right(name, request.form.get("password", "")):
        flash("This name and password do not match.", "problem")
        return go_to("login")
    session["user_id"] = name  # SESSION_OWNER_KEY: same cart, new session key; the old key is dead
    session.permanent = "remember" in request.form  # a cookie that outlives the browser
    flash(f"Welcome, {name.title()}!")
    return go_to("cart" if session.get("cart") else "products")


@bp.post("/logout")
def log_out() -> Response:
    session.clear()  # all data and the session key are gone; the message starts a new session
    flash("You are logged out. See you soon!")
    return go_to("products")


@bp.get("/devices")
@for_customers
def devices() -> str | Response:
    return render_template("devices.html", devices=sessions.find(session["user_id"]))


@bp.post("/devices/sign-out")
@for_customers
def sign_out() -> str | Response:
    # A handle is not secret, and the browser may send any: with the owner, it ends only this user's sessions.
    if sessions.revoke(request.form.get("handle", ""), owner=session["user_id"]):
        flash("That device is signed out.")
    else:
        flash("That device was signed out already.")
    return go_to("devices")  # which leads to the log-in, if it was this device


@bp.post("/devices/sign-out-others")
@for_customers
def sign_out_others() -> str | Response:
    count = sessions.revoke_all(session["user_id"], keep_current=True)
    others = "1 other device is" if count == 1 else f"{count} other devices are"
    flash(f"{others} signed out." if count else "You are signed in nowhere else.")
    return go_to("devices")
