"""All kinds of outputs, in the order of `--help`: one module each."""

from moe_live.outputs import metrics, page, server
from moe_live.outputs.output import OutputOptions

OUTPUTS: tuple[OutputOptions, ...] = (
    page.OPTIONS,
    server.OPTIONS,
    metrics.OPTIONS,
)
