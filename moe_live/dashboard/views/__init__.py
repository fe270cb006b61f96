"""The views, in the order of their tabs: one module each."""

from moe_live.dashboard.view import View
from moe_live.dashboard.views import (
    balance,
    distances,
    experts,
    heatmap,
    hot_set,
    incoming,
    labels,
    layers,
    locality,
    next_layer,
    over_time,
    overview,
    pairs,
)

VIEWS: tuple[View, ...] = (
    overview.VIEW,
    heatmap.VIEW,
    layers.VIEW,
    experts.VIEW,
    distances.VIEW,
    balance.VIEW,
    hot_set.VIEW,
    locality.VIEW,
    pairs.VIEW,
    next_layer.VIEW,
    over_time.VIEW,
    labels.VIEW,
    incoming.VIEW,
)

EXPERTS = VIEWS.index(experts.VIEW)
INPUT = VIEWS.index(incoming.VIEW)
