"""Benchmarks print one kind of line, keep their samples, and fail when a bar is missed."""

import json
import math

import pytest

from bench import __main__ as runner
from bench.figures import Figures, quantile


def finished(figures, capsys, tmp_path):
    code = figures.finish()
    return code, capsys.readouterr(), json.loads((tmp_path / "b.json").read_text())


def test_lines_and_raw_file(capsys, tmp_path):
    """With a bar either way, without one, and everything kept."""
    figures = Figures("b", seed=7, results=tmp_path)
    figures.figure("start", 0.51234, "s", at_most=0.6, samples=[0.5, 0.52])
    figures.figure("rate", 2000, "1/s", at_least=1000)
    figures.figure("size", 12_345_678, "bytes")
    code, printed, raw = finished(figures, capsys, tmp_path)
    assert code == 0
    assert printed.out.splitlines()[:3] == [
        "figure start 0.5123 s bar <= 0.6",
        "figure rate 2000 1/s bar >= 1000",
        "figure size 12345678 bytes",
    ]
    assert raw["seed"] == 7
    assert raw["figures"][0]["samples"] == [0.5, 0.52]


@pytest.mark.parametrize("bar", [{"at_most": 1.0}, {"at_least": 3.0}])
@pytest.mark.parametrize("value", [2.0, math.nan])
def test_a_missed_bar_is_named_and_is_exit_code_1(capsys, tmp_path, bar, value):
    """Also where there is no value at all."""
    figures = Figures("b", results=tmp_path)
    figures.figure("x", value, "s", **bar)
    code, printed, raw = finished(figures, capsys, tmp_path)
    assert code == 1
    assert printed.err.startswith("MISSED figure x")
    assert raw["figures"][0]["missed"]


def test_quantiles_are_samples():
    """No interpolation: a quantile is something that happened; the median of an even number excepted."""
    samples = [float(n) for n in range(1, 101)]
    assert [quantile(samples, share) for share in (0.99, 0.999, 1.0, 0.01)] == [99.0, 100.0, 100.0, 1.0]
    assert quantile([1.0, 2.0], 0.5) == 1.5
    assert math.isnan(quantile([], 0.5))


def test_the_runner_lists_every_benchmark_and_knows_no_other(capsys):
    """With the first line of its docstring."""
    assert runner.run([]) == 0
    assert "startup  " in capsys.readouterr().out
    assert runner.run(["nonsense"]) == 2
    assert "no benchmark 'nonsense'; there are:" in capsys.readouterr().err
