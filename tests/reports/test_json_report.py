import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from moe_live import __version__
from moe_live.judgement import Subject
from moe_live.reports.json_report import json_text, to_json
from moe_live.share import SourceNow, SourceShare
from moe_live.snapshot import Snapshot
from moe_live.statistics.hot_set import HotExpert
from tests.reports.snapshots import EMPTY, FULL, METRICS, analyzed_with_labels, snapshots


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


COUNT = {"prefill": int, "decode": int}
EXPERT = {"expert": int, "count": int, "share": float}
USAGE = {
    "selections": int,
    "experts_used": int,
    "unused": [int],
    "counts": [int],
    "prefill_counts": [int],
    "decode_counts": [int],
    "top": [EXPERT],
    "bottom": [EXPERT],
}
FIGURE = (float, type(None))
KNOWN = (int, type(None))
TEXT = (str, type(None))
BALANCE = {
    "entropy": FIGURE,
    "entropy_normalized": FIGURE,
    "effective_experts": FIGURE,
    "gini": FIGURE,
    "cv": FIGURE,
    "jain": FIGURE,
    "max_violation": FIGURE,
    "max_violation_bound": FIGURE,
    "balancedness": FIGURE,
    "kl_uniform": FIGURE,
    "dead_experts": int,
    "dead_expected": FIGURE,
}
COVERAGE = dict.fromkeys(("0.5", "0.8", "0.9", "0.95", "0.99"), int)
LOCALITY = {
    "steps": int,
    "uses": int,
    "overlap": dict.fromkeys(("1", "2", "4", "8"), FIGURE),
    "overlap_chance": FIGURE,
    "reuse_median": FIGURE,
    "reuse_p90": FIGURE,
    "never_again": FIGURE,
    "working_set": dict.fromkeys(("10", "100", "1000"), FIGURE),
    "lru_hit_rate": [FIGURE],
    "static_hit_rate": [FIGURE],
    "idle_steps": [FIGURE],
}
UNION = dict.fromkeys(("2", "3", "4", "5", "6", "7", "8", "16", "32", "64"), FIGURE)
PAIR = {"a": int, "b": int, "count": int} | dict.fromkeys(("expected", "lift", "pmi", "z"), FIGURE)
CACHE_GAIN = {"experts": int} | dict.fromkeys(("lru_hit_rate", "chance", "gain", "gain_error"), FIGURE)
SECTIONS = {
    "transitions": [
        {"from": int, "to": int, "tokens": int, "tested": int}
        | dict.fromkeys(("hit_rate", "static_hit_rate", "chance", "gain", "gain_error"), FIGURE)
    ],
    "coactivation": [
        {
            "layer": int,
            "rows": int,
            "chance_lift": FIGURE,
            "tested": int,
            "spread": FIGURE,
            "z_needed": FIGURE,
            "pairs": [PAIR],
            "weakest": [PAIR],
        }
    ],
    "drift": {
        "window": int,
        "steps": int,
        "told": bool,
        "layers": [{"layer": int, "js": FIGURE, "js_expected": FIGURE, "js_limit": FIGURE, "drifted": bool}],
    },
    "labels": [
        {
            "label": str,
            "tokens": int,
            "periods": int,
            "layers": [{"layer": int, "counts": [int]}],
            "specific": [
                {"layer": int, "expert": int, "count": int}
                | dict.fromkeys(("share", "share_elsewhere", "log_odds", "z"), FIGURE)
            ],
        }
    ],
    "label_divergences": [{"a": str, "b": str, "js": FIGURE, "js_expected": FIGURE, "real_layers": KNOWN}],
}
MOMENTS = {
    "mean": FIGURE,
    "std": FIGURE,
    "min": FIGURE,
    "max": FIGURE,
    "last": FIGURE,
    "count": int,
    "undefined": int,
}
SCHEMA: dict[str, Any] = {
    "schema": str,
    "tool": {"name": str, "version": str},
    "source": {
        "paths": [str],
        "format": str,
        "bytes": int,
        "lines": int,
        "malformed_lines": int,
        "comments": int,
        "dropped_steps": int,
        "empty_rows": int,
        "incomplete_bytes": int,
        "incomplete_lines": int,
        "nul_bytes": int,
        "restarts": int,
        "rotations": int,
    },
    "model": {"layers": [int], "n_experts": KNOWN, "top_k": KNOWN, "gate_layers": [int], "n_embd": KNOWN},
    "rows": {
        "mode": str,
        "logged": int,
        "counted": int,
        "recovered": int,
        "unrecoverable": int,
        "impossible": int,
        "odd": int,
        "drafts": int,
        "strided": (bool, type(None)),
        "verdict": str,
        "runs": dict.fromkeys(("sound", "strided", "mixed", "right either way", "undecided"), int),
    },
    "runs": [
        {"run": int, "log": TEXT, "word": str}
        | dict.fromkeys(("logged", "counted", "recovered", "unrecoverable"), int)
    ],
    "runs_left_out": int,
    "steps": {"total": int} | COUNT,
    "tokens": COUNT,
    "phase": str,
    "verdicts": [{"subject": str, "word": str, "text": str, "sure": bool}],
    "sources": [
        {"name": str, "state": TEXT, "age_seconds": FIGURE, "left_out": TEXT}
        | dict.fromkeys(("bytes", "lines", "malformed_lines"), int)
        | {"rows": {"logged": int, "counted": int, "word": str, "verdict": str}}
        | {"steps": {"total": int} | COUNT, "tokens": COUNT}
        | {"hottest": [{"layer": int, "expert": int, "count": int, "share": FIGURE}]}
        | {"js": FIGURE, "js_by_chance": FIGURE}
    ],
    "drafts": [{"layer": int, "rows": int, "told": bool} | USAGE],
    "distances": {
        "steps": int,
        "include_prompt": bool,
        "pairs": [
            {"from": int, "to": int, "steps": int} | dict.fromkeys(METRICS, MOMENTS) | {"recent": [FIGURE]}
        ],
    },
    "cache": [
        {"bytes": int, "steps": int}
        | dict.fromkeys(("optimum", "lru", "lfu", "layer_lru", "layer_lfu", "static_unseen"), FIGURE)
        | {"chance": FIGURE, "best": str, "gain": FIGURE, "gain_error": FIGURE}
        | {"gains": (bool, type(None))}
    ],
    "budget": [
        {"experts": int, "bytes": KNOWN, "share_uniform": FIGURE, "share_best": FIGURE, "slots": [int]}
    ],
    "layers": [{"layer": int, "n_experts": int} | USAGE | {"balance": BALANCE, "coverage": COVERAGE}],
    "overall": USAGE | {"balance": BALANCE, "coverage": COVERAGE},
    "warnings": [str],
}


def check(value: Any, schema: Any, where: str = "summary") -> None:
    """Keys and types are those of the schema, no more and no less."""
    if isinstance(schema, dict):
        assert list(value) == list(schema), where
        for key, inner in schema.items():
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        assert type(value) is list, where
        for item in value:
            check(item, schema[0], f"{where}[]")
    else:
        assert type(value) in (schema if isinstance(schema, tuple) else (schema,)), where


@pytest.mark.parametrize("snapshot", [EMPTY, FULL])
def test_schema(snapshot: Snapshot) -> None:
    check(to_json(snapshot), SCHEMA)


def test_schema_of_all_sections() -> None:
    summary = to_json(analyzed_with_labels())
    cache, layers = map(list(SCHEMA).index, ("cache", "layers"))
    known = list(SCHEMA.items())
    schema = dict(known[:cache]) | {"cache_gain": CACHE_GAIN} | dict(known[cache:layers])
    schema |= SECTIONS | dict(known[layers:])
    schema["layers"] = [SCHEMA["layers"][0] | {"locality": LOCALITY, "union": UNION}]
    check(json.loads(json.dumps(summary, allow_nan=False)), schema)
    assert [entry["label"] for entry in summary["labels"]] == ["code", "prose"]
    first = summary["layers"][0]
    assert len(first["locality"]["lru_hit_rate"]) == summary["model"]["n_experts"]
    assert first["coverage"]["0.99"] >= first["coverage"]["0.5"] > 0
    assert len(summary["transitions"]) == len(summary["layers"]) - 1
    assert [entry["subject"] for entry in summary["verdicts"]] == list(Subject)


@given(snapshots())
def test_any_snapshot_is_strict_json(snapshot: Snapshot) -> None:
    text = json.dumps(to_json(snapshot), allow_nan=False)
    check(strict(text), SCHEMA)
    text.encode("ascii")


def test_values() -> None:
    summary = to_json(FULL)
    assert summary["schema"] == "moe-live.summary/1"
    assert summary["tool"] == {"name": "moe-live", "version": __version__}
    assert summary["source"] == {
        "paths": ["/logs/a.log", "b\x1b[2J\\xff.log"],
        "format": "llama-server",
        "bytes": 123456,
        "lines": 1000,
        "malformed_lines": 3,
        "comments": 0,
        "dropped_steps": 0,
        "empty_rows": 0,
        "incomplete_bytes": 7,
        "incomplete_lines": 1,
        "nul_bytes": 5,
        "restarts": 1,
        "rotations": 2,
    }
    assert summary["model"] == {
        "layers": [3, 4, 5, 9],
        "n_experts": 12,
        "top_k": 2,
        "gate_layers": [4, 5],
        "n_embd": 8,
    }
    assert summary["rows"] == {
        "mode": "auto",
        "logged": 100,
        "counted": 60,
        "recovered": 4,
        "unrecoverable": 40,
        "impossible": 0,
        "odd": 0,
        "drafts": 0,
        "strided": True,
        "verdict": "some rows are wrong",
        "runs": {"sound": 0, "strided": 0, "mixed": 0, "right either way": 0, "undecided": 0},
    }
    assert summary["steps"] == {"total": 52, "prefill": 2, "decode": 50}
    assert summary["tokens"] == {"prefill": 30, "decode": 50}
    assert [layer["layer"] for layer in summary["layers"]] == [3, 4, 5]
    first = summary["layers"][0]
    assert first["selections"] == 1627
    assert first["experts_used"] == 9
    assert first["counts"] == [1504, 0, 3, 3, 10, 1, 2, 2, 1, 0, 101, 0]
    assert first["prefill_counts"] == [4, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0]
    assert first["decode_counts"] == [1500, 0, 2, 2, 9, 0, 1, 1, 0, 0, 100, 0]
    assert first["top"][:2] == [
        {"expert": 0, "count": 1504, "share": 1504 / 1627},
        {"expert": 10, "count": 101, "share": 101 / 1627},
    ]
    assert [entry["expert"] for entry in first["top"]] == [0, 10, 4, 2, 3, 6, 7, 5, 8]
    assert [entry["expert"] for entry in first["bottom"]] == [3, 6, 7, 5, 8]
    assert summary["overall"]["selections"] == 1634
    (pair,) = summary["distances"]["pairs"]
    assert (pair["from"], pair["to"], pair["steps"]) == (4, 5, 50)
    assert pair["euclidean"] == {
        "mean": 12345.678,
        "std": 1e-7,
        "min": 1e20,
        "max": 3.0,
        "last": 0.0,
        "count": 50,
        "undefined": 0,
    }
    assert pair["pearson"]["mean"] is None
    assert pair["mean_abs_diff"]["last"] is None
    assert summary["warnings"] == list(FULL.warnings)


def test_the_text_is_one_line() -> None:
    text = json_text(FULL)
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert strict(text) == to_json(FULL)


def test_what_each_of_several_sources_has() -> None:
    hot = HotExpert(4, 7, 10, 0.25, 1)
    shares = (
        SourceShare(
            "a\udcff.log", rows=9, row_word="sound", hottest=hot, apart=0.5, now=SourceNow("waiting")
        ),
        SourceShare("b", left_out="it is damaged", hottest=hot, now=SourceNow(age=3.5)),
    )
    summary = to_json(replace(FULL, input=replace(FULL.input, sources=shares)))
    check(summary, SCHEMA)
    first, second = summary["sources"]
    assert (first["name"], first["state"], first["left_out"]) == ("a\\xff.log", "waiting", None)
    assert (first["rows"]["logged"], first["js"], first["js_by_chance"]) == (9, 0.5, None)
    assert (second["state"], second["age_seconds"], second["left_out"]) == (None, 3.5, "it is damaged")
