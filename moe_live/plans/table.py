"""All kinds of plans, in the order of `--help`: one module each."""

from importlib import import_module

from moe_live.plans.plan import Plan

_MODULES = (
    "cache",
    "offload",
    "placement",
    "prune",
)

PLANS: tuple[Plan, ...] = tuple(import_module(f"moe_live.plans.{module}").PLAN for module in _MODULES)
