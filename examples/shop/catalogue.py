"""The products of the shop. A real shop would ask a database."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Product:
    sku: str  # also the name of its picture in static/pictures.svg
    name: str
    about: str
    price: Decimal


PRODUCTS = {
    product.sku: product
    for product in (
        Product("kettle", "Enamel kettle", "Two litres, and it sings when it is ready.", Decimal("48.00")),
        Product("mug", "Stoneware mug", "Thrown by hand, so no two are quite alike.", Decimal("14.50")),
        Product("lamp", "Reading lamp", "Warm light with a heavy foot that stays put.", Decimal("89.00")),
        Product("notebook", "Dotted notebook", "Lies flat. 160 pages that do not bleed.", Decimal("11.90")),
        Product("plant", "Rubber plant", "Forgives a fortnight without water.", Decimal("26.00")),
        Product("clock", "Kitchen clock", "Silent hands and one battery a year.", Decimal("34.75")),
    )
}
