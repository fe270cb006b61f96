"""The views, in the order of their tabs: one module each."""

from importlib import import_module

from moe_live import view_names
from moe_live.dashboard.view import View
from moe_live.dashboard.views import experts, incoming

VIEWS: tuple[View, ...] = tuple(
    import_module(f"{__name__}.{module}").VIEW for module in view_names.VIEWS.values()
)
EXPERTS = VIEWS.index(experts.VIEW)
INPUT = VIEWS.index(incoming.VIEW)
