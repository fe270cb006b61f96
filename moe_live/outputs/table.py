"""All kinds of outputs, in the order of `--help`: one module each."""

from moe_live.outputs import hot_list, json_file, metrics, page, server, steps
from moe_live.outputs.output import OutputOptions

OUTPUTS: tuple[OutputOptions, ...] = (
    json_file.OPTIONS,
    hot_list.OPTIONS,
    page.OPTIONS,
    steps.OPTIONS,
    server.OPTIONS,
    metrics.OPTIONS,
)
