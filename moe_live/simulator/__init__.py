"""A simulated llama-server: a routing log with known truth, without a model."""

from moe_live.simulator.model import ModelShape
from moe_live.simulator.server import HEADER, Block, Request, SimulatedServer, Step
from moe_live.simulator.writer import demo_server, write_log

__all__ = ["HEADER", "Block", "ModelShape", "Request", "SimulatedServer", "Step", "demo_server", "write_log"]
