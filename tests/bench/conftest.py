"""What a benchmark found beside its time, printed after pytest-benchmark's table."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    session = getattr(terminalreporter.config, "_benchmarksession", None)  # none in pytest-xdist's processes
    for benchmark in session.benchmarks if session else []:
        if benchmark.extra_info:
            found = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in benchmark.extra_info.items())
            terminalreporter.write_line(f"{benchmark.name}: {found}")


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list, output_json: dict) -> None:
    """The file keeps statistics, not every round."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
