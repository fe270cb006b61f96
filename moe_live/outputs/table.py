"""All kinds of outputs, in the order of `--help`: one module each."""

from importlib import import_module

from moe_live.outputs.output import OutputOptions

_MODULES = (
    "json_file",
    "hot_list",
    "page",
    "steps",
    "server",
    "metrics",
    "tables",
)

OUTPUTS: tuple[OutputOptions, ...] = tuple(
    import_module(f"moe_live.outputs.{module}").OPTIONS for module in _MODULES
)
