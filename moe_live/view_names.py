"""The views of the dashboard, in the order of their tabs: known without loading one, which takes numpy."""

VIEWS: dict[str, str] = {
    "overview": "overview",
    "heatmap": "heatmap",
    "layers": "layers",
    "experts": "experts",
    "distances": "distances",
    "balance": "balance",
    "hot-set": "hot_set",
    "locality": "locality",
    "pairs": "pairs",
    "next-layer": "next_layer",
    "time": "over_time",
    "labels": "labels",
    "cache": "cache",
    "offload": "offload",
    "placement": "placement",
    "prune": "prune",
    "a-and-b": "compare",
    "input": "incoming",
}
"""The name of each, and of its module in `dashboard/views`."""
