"""All kinds of plans, in the order of `--help`: one module each."""

from moe_live.plans import cache, offload, placement, prune
from moe_live.plans.plan import Plan

PLANS: tuple[Plan, ...] = (cache.PLAN, offload.PLAN, placement.PLAN, prune.PLAN)
